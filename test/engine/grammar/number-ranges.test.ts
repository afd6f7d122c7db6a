import { describe, expect, it } from 'vitest';
import { type Bound, integerRange, numberRange } from '../../../engine/grammar/number-ranges.ts';
import { randomInts } from '../random.ts';
import { acceptor } from './acceptor.ts';

const int = randomInts(20_260_102);

/** Bounds close to one another, to zero, and to powers of ten. */
function drawInteger(): number {
  const sign = int(0, 1) === 0 ? 1 : -1;
  return sign * (int(0, 2) === 0 ? 10 ** int(0, 6) + int(-2, 2) : int(0, int(0, 1) === 0 ? 30 : 99_999));
}

describe('whole numbers between bounds', () => {
  it('are those and no others', async () => {
    for (let i = 0; i < 80; i++) {
      const [low, high] = [drawInteger(), drawInteger()].sort((a, b) => a - b);
      const [from, to] = [int(0, 4) > 0 ? low : null, int(0, 4) > 0 ? high : null];
      const range = integerRange(from === null ? null : BigInt(from), to === null ? null : BigInt(to));
      const { accepts } = await acceptor(`root ::= ${range}`);
      for (const center of [low, high, 0, drawInteger()]) {
        for (const value of [center - 1, center, center + 1, center * 10, -center]) {
          const isIn = (from === null || value >= from) && (to === null || value <= to);
          expect(await accepts(String(value)), `${value} in ${from}..${to}`).toBe(isIn);
        }
      }
      for (const text of ['', '-', '-0', '00', '01', '1.0', '+1'])
        expect(await accepts(text), text).toBe(false);
    }
  });
});

describe('numbers between bounds', () => {
  const draw = () => drawInteger() / 10 ** int(0, 5);
  const bound = (value: number): Bound | null =>
    int(0, 4) === 0 ? null : { value, isExclusive: int(0, 1) === 0 };

  it('are those and no others', async () => {
    for (let i = 0; i < 80; i++) {
      const [a, b] = [draw(), draw()].sort((x, y) => x - y);
      const [low, high] = [bound(a), bound(b)];
      const range = numberRange(low, high);
      const isIn = (value: number) =>
        (low === null || value > low.value || (value === low.value && !low.isExclusive)) &&
        (high === null || value < high.value || (value === high.value && !high.isExclusive));
      if (range === null) {
        expect(a).toBe(b);
        continue;
      }
      const { accepts } = await acceptor(`root ::= ${range}`);
      for (const center of [a, b, (a + b) / 2, 0, draw()]) {
        for (const step of [0, 1, -1, 0.1, -0.1, 0.00001, -0.00001]) {
          const text = String(Number((center + step).toFixed(8)));
          if (/e/.test(text) || text === '-0') continue;
          const shown = `${text} in ${JSON.stringify([low, high])}`;
          expect(await accepts(text), shown).toBe(isIn(Number(text)));
          if (text.includes('.')) expect(await accepts(`${text}0`), shown).toBe(isIn(Number(text)));
        }
      }
    }
  });

  it('with an exponent in the bound', async () => {
    const tiny = await acceptor(`root ::= ${numberRange({ value: 1e-7, isExclusive: false }, null)}`);
    expect(await tiny.accepts('0.0000001')).toBe(true);
    expect(await tiny.accepts('0.00000009')).toBe(false);
    const large = await acceptor(`root ::= ${numberRange(null, { value: 1e21, isExclusive: true })}`);
    expect(await large.accepts('999999999999999999999')).toBe(true);
    expect(await large.accepts('1000000000000000000000')).toBe(false);
  });
});
