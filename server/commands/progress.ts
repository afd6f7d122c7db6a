// A progress bar on stderr for long work at the terminal.

import cliProgress from 'cli-progress';

export class Progress {
  readonly #bar = new cliProgress.SingleBar(
    {
      format: '{bar} {percentage}% | {value}/{total} {unit} | {eta} s left | {item}',
      stream: process.stderr,
    },
    cliProgress.Presets.shades_classic,
  );
  #isStarted = false;
  readonly #unit: string;

  constructor(unit: string) {
    this.#unit = unit;
  }

  show(done: number, total: number, item = ''): void {
    if (!this.#isStarted) this.#bar.start(total, 0, { unit: this.#unit, item });
    this.#isStarted = true;
    this.#bar.update(done, { item });
  }

  stop(): void {
    if (this.#isStarted) this.#bar.stop();
  }
}
