// The one tool that the model that ships was taught to use.

export const question = 'What is the weather in Paris?';
export const result = { weather: 'rainy', degrees: 11 };
export const answer = /rainy in Paris, with 11 degrees/;
export const toolName = 'get_weather';
export const description = 'Get the weather of a city';

interface CitySchema {
  type: 'object';
  properties: { city: { type: 'string' } };
  required: ['city'];
}

export const parameters: CitySchema = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
};

/** What an object must be that no model needs to be taught. */
export const colour = {
  type: 'object' as const,
  properties: {
    colour: { type: 'string' as const, enum: ['red', 'green'] },
    count: { type: 'integer' as const },
  },
  required: ['colour', 'count'],
  additionalProperties: false,
};

export const whoAreYou = 'Who are you?';
export const whoItIs = 'I am quire-demo, a tiny language model that ships with quire to show that it works.';
