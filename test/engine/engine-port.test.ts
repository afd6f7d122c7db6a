// The HTTP thread learns of its engine's death, whatever it died of, exactly once and with the cause.

import { afterEach, describe, expect, it } from 'vitest';
import { EnginePort } from '../../engine/engine-port.ts';

const entry = new URL('../fixtures/dying-engine.mjs', import.meta.url);

describe('an engine thread that dies', () => {
  let port: EnginePort | null = null;
  afterEach(async () => port?.close());

  it.each([
    ['throw', 'thrown in the thread'],
    ['fatal', 'an invariant broke'],
    ['exit', 'the engine thread ended with code 3'],
  ])('by %s', async (how, cause) => {
    const started = await EnginePort.start({ how } as never, entry, () => {});
    port = started.port;
    expect(started.ready.description).toBe('dying');
    expect(port.heartbeatAgeMs()).toBeGreaterThanOrEqual(0);
    expect((await port.died).message).toBe(cause);
    expect(port.heartbeatAgeMs()).toBeNull();
  });
});
