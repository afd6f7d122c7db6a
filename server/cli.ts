#!/usr/bin/env node
// The command line: which command runs.

import { ModelError } from '../engine/engine.ts';
import { OptionError } from './options.ts';
import { StoreError } from './store/store-error.ts';

const usage = `Usage: quire serve [MODEL] [flags]     serve a model over HTTP
       quire bench serve [flags]       measure an OpenAI-compatible server
       quire bench throughput MODEL    measure a model without a server: tokens a second
       quire bench latency MODEL       measure a model without a server: one request's times
       quire bench startup MODEL       measure a server's start, up to its first token
       quire bench ops [MODEL]         measure the CPU's kernels, beside what the machine can do
       quire merge-lora BASE ADAPTER OUT
                                       merge a LoRA adapter into a model
       quire quantize MODEL OUT --calibration FILE
                                       make 4-bit weights (AWQ)
       quire eval perplexity MODEL --text FILE
                                       say how well a model predicts a text
       quire doctor                    say what this machine has, and what would run
       quire --version

Each command tells its flags with --help.
`;

/** What follows the command's words; its help without running anything. */
interface Command {
  help(): string;
  run(args: readonly string[]): number | Promise<number>;
}

/** Each is imported when it is asked for: a server that starts need not wait for what quantises models. */
const commands: Record<string, () => Promise<Command>> = {
  serve: async () => {
    const { serveHelp, runServe } = await import('./serve.ts');
    return { help: serveHelp, run: runServe };
  },
  'bench serve': async () => {
    const { benchHelp, runBench } = await import('./bench/run.ts');
    return { help: benchHelp, run: runBench };
  },
  'bench throughput': async () => {
    const { throughputHelp, runThroughput } = await import('./bench/throughput.ts');
    return { help: throughputHelp, run: runThroughput };
  },
  'bench latency': async () => {
    const { latencyHelp, runLatency } = await import('./bench/latency.ts');
    return { help: latencyHelp, run: runLatency };
  },
  'bench startup': async () => {
    const { startupHelp, runStartup } = await import('./bench/startup.ts');
    return { help: startupHelp, run: runStartup };
  },
  'bench ops': async () => {
    const { benchOpsHelp, runBenchOps } = await import('./commands/bench-ops.ts');
    return { help: benchOpsHelp, run: runBenchOps };
  },
  'merge-lora': async () => {
    const { mergeLoraHelp, runMergeLora } = await import('./commands/merge-lora.ts');
    return { help: () => mergeLoraHelp, run: runMergeLora };
  },
  quantize: async () => {
    const { quantizeHelp, runQuantize } = await import('./commands/quantize.ts');
    return { help: quantizeHelp, run: runQuantize };
  },
  'eval perplexity': async () => {
    const { perplexityHelp, runPerplexity } = await import('./commands/perplexity.ts');
    return { help: perplexityHelp, run: runPerplexity };
  },
  doctor: async () => {
    const { doctorHelp, runDoctor } = await import('./commands/doctor.ts');
    return { help: () => doctorHelp, run: runDoctor };
  },
};

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

async function run(args: readonly string[]): Promise<number> {
  const wantsHelp = args.includes('--help') || args.includes('-h');
  for (const [words, load] of Object.entries(commands)) {
    const numWords = words.split(' ').length;
    if (args.slice(0, numWords).join(' ') !== words) continue;
    const command = await load();
    return wantsHelp ? print(command.help()) : command.run(args.slice(numWords));
  }
  if (args[0] === '--version') return print(`${(await import('./serve.ts')).version}\n`);
  if (args.length === 0 || wantsHelp) return print(usage);
  throw new OptionError(
    `unknown command ${args.slice(0, 2).join(' ')}, allowed: ${Object.keys(commands).join(', ')}`,
  );
}

try {
  process.exitCode = await run(process.argv.slice(2));
} catch (error) {
  const isExpected =
    error instanceof OptionError || error instanceof ModelError || error instanceof StoreError;
  const debug = process.argv.includes('debug');
  const message = error instanceof Error ? error.message.split('\n')[0] : String(error);
  process.stderr.write(
    `quire: ${message}\n${debug && !isExpected && error instanceof Error ? `${error.stack}\n` : ''}`,
  );
  process.exit(1);
}
// Threads and sockets that are still closing do not keep an ended command alive.
process.exit();
