#!/usr/bin/env node
// The command line: which command runs.

import { ModelError } from '../engine/engine.ts';
import { latencyHelp, runLatency } from './bench/latency.ts';
import { benchOptions } from './bench/options.ts';
import { runBench } from './bench/run.ts';
import { runThroughput, throughputHelp } from './bench/throughput.ts';
import { benchOpsHelp, runBenchOps } from './commands/bench-ops.ts';
import { doctorHelp, runDoctor } from './commands/doctor.ts';
import { mergeLoraHelp, runMergeLora } from './commands/merge-lora.ts';
import { perplexityHelp, runPerplexity } from './commands/perplexity.ts';
import { quantizeHelp, runQuantize } from './commands/quantize.ts';
import { helpOf, OptionError, readOptions, serveOptions } from './options.ts';
import { serve, version } from './serve.ts';
import { StoreError } from './store/database.ts';

const usage = `Usage: quire serve [MODEL] [flags]     serve a model over HTTP
       quire bench serve [flags]       measure an OpenAI-compatible server
       quire bench throughput MODEL    measure a model without a server: tokens a second
       quire bench latency MODEL       measure a model without a server: one request's times
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

const serveHelp = () =>
  helpOf(
    'quire serve [MODEL] [flags]',
    'Serves MODEL, a folder or a Hub id (name or name@revision); without one, the model that ships with quire.',
    serveOptions,
    true,
  );

const benchHelp = () =>
  helpOf(
    'quire bench serve [flags]',
    'Sends requests to an OpenAI-compatible server and reports what it achieves.',
    benchOptions,
    false,
  );

async function run(args: readonly string[]): Promise<number> {
  const wantsHelp = args.includes('--help') || args.includes('-h');
  const print = (text: string) => {
    process.stdout.write(text);
    return 0;
  };
  if (args[0] === 'serve') {
    if (wantsHelp) return print(serveHelp());
    const { model, values } = readOptions(args.slice(1), process.env);
    return serve(model, values);
  }
  if (args[0] === 'bench' && args[1] === 'serve') {
    if (wantsHelp) return print(benchHelp());
    // The server's variables say nothing to the load generator.
    return runBench(readOptions(args.slice(2), {}, benchOptions).values);
  }
  if (args[0] === 'bench' && args[1] === 'throughput') {
    return wantsHelp ? print(throughputHelp()) : runThroughput(args.slice(2));
  }
  if (args[0] === 'bench' && args[1] === 'latency') {
    return wantsHelp ? print(latencyHelp()) : runLatency(args.slice(2));
  }
  if (args[0] === 'bench' && args[1] === 'ops')
    return wantsHelp ? print(benchOpsHelp()) : runBenchOps(args.slice(2));
  if (args[0] === 'merge-lora') return wantsHelp ? print(mergeLoraHelp) : runMergeLora(args.slice(1));
  if (args[0] === 'quantize') return wantsHelp ? print(quantizeHelp()) : runQuantize(args.slice(1));
  if (args[0] === 'eval' && args[1] === 'perplexity') {
    return wantsHelp ? print(perplexityHelp()) : runPerplexity(args.slice(2));
  }
  if (args[0] === 'doctor') return wantsHelp ? print(doctorHelp) : runDoctor();
  if (args[0] === '--version') return print(`${version}\n`);
  if (args.length === 0 || wantsHelp) return print(usage);
  throw new OptionError(
    `unknown command ${args.slice(0, 2).join(' ')}, allowed: serve, bench serve|throughput|latency|ops, merge-lora, quantize, eval perplexity, doctor`,
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
