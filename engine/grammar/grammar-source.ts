// What a caller asks for -> the form that is compiled. Everything here runs in a worker: schemas are
// walked, and their size is the client's.

import { EbnfRules, literal } from './ebnf.ts';
import type { GrammarRequest, GrammarSource } from './grammar.ts';
import { jsonSchemaToEbnf } from './json-schema.ts';
import { regexGrammar } from './regex.ts';
import { toStructuralTag } from './structural-tag.ts';

/** Throws GrammarError. */
export function toSource(request: GrammarRequest): GrammarSource {
  switch (request.type) {
    case 'json_schema':
      return { type: 'ebnf', text: jsonSchemaToEbnf(request.schema) };
    case 'json_object':
      return { type: 'ebnf', text: jsonSchemaToEbnf({ type: 'object' }) };
    case 'regex':
      return { type: 'ebnf', text: regexGrammar(request.pattern) };
    case 'choice': {
      const rules = new EbnfRules();
      return { type: 'ebnf', text: rules.text(rules.choice(request.choices.map(literal))) };
    }
    case 'ebnf':
      return { type: 'ebnf', text: request.grammar };
    case 'structural_tag':
      return { type: 'structural_tag', text: JSON.stringify(toStructuralTag(request.tag)) };
  }
}
