// Asks /v1/responses of an application over a fake engine.

import { type AnsweringApp, type Answers, answeringApp, eventsOf } from './fake-answers.ts';

export class ResponsesClient {
  app!: AnsweringApp;

  async open(answers: Answers): Promise<void> {
    this.app = await answeringApp(answers);
  }

  close(): Promise<void> {
    return this.app.fastify.close();
  }

  send(method: 'GET' | 'POST' | 'DELETE', path: string, payload?: object, headers = {}) {
    return this.app.fastify.inject({ method, url: `/v1/responses${path}`, payload, headers });
  }

  async create(fields: object) {
    return (await this.send('POST', '', { input: 'Hi', ...fields })).json();
  }

  async streamed(fields: object) {
    return eventsOf((await this.send('POST', '', { input: 'Hi', stream: true, ...fields })).body);
  }
}
