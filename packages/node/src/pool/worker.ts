/** A thread of a pool: an engine, and the machines that it runs by turns. Starts to compile the engine before it is asked. */

import { flushCompileCache } from 'node:module';
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { ForkPoint } from '@braid/core/branch/fork-point.ts';
import { Engine } from '@braid/core/engine/engine.ts';
import { Pool } from '@braid/core/memory/pool.ts';
import { toRecord } from '../errors.ts';
import { PathRunner } from '../runner/path-runner.ts';
import { ReplayRunner } from '../runner/replay-runner.ts';
import { MachineRunner } from '../runner/runner.ts';
import type { Runner, RunnerHost } from '../runner/thread.ts';
import type { FromWorker, Request, ToWorker, WorkerStart } from './protocol.ts';

const port: MessagePort = parentPort!;
const { memory, area, posted } = workerData as WorkerStart;
const pool = new Pool(undefined, undefined, memory);
const send = (message: FromWorker, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);
const engine = new Engine(pool, area, { onModule: (module) => send({ module }) });
const runners = new Map<number, Runner>();
/** Fork points that machines go back to, by their numbers. The main thread holds their frames. */
const points = new Map<number, ForkPoint>();
let running = false;
/** Somebody may have reason to run who had none at his last turn. */
let woken = false;

/** Messages taken, as `posted` counts them. */
let taken = 0;

function take(message: ToWorker): void {
  taken = (taken + 1) | 0;
  if ('requests' in message) {
    const { machine, requests } = message;
    const runner = runnerOf(machine, requests);
    guarded(machine, () => {
      for (const request of requests) runner.handle(request);
    });
  } else if ('module' in message) engine.install(message.module);
  else if ('forget' in message) points.delete(message.forget);
  else standStill(message.gate);
}

function runnerOf(machine: number, requests: readonly Request[]): Runner {
  let runner = runners.get(machine);
  if (!runner) {
    runner = runnerFor(requests[0], {
      report: (report, transfer) => send({ machine, report }, transfer),
      called: () => Atomics.load(posted, 0) !== taken,
      // Not at once: whoever asks may be in the middle of something.
      wake: () => queueMicrotask(run),
      gone: () => runners.delete(machine),
    });
    runners.set(machine, runner);
  }
  return runner;
}

/** Does work of one machine. An error that nothing in it expected ends that machine, and the others run on. */
function guarded<T>(machine: number, work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    lose(machine, error);
    return undefined;
  }
}

/** A machine is in a state that nothing is known of. What it holds of the pool is counted as free: see `Pool.recover`. */
function lose(machine: number, error: unknown): void {
  const runner = runners.get(machine);
  runners.delete(machine);
  try {
    runner?.abandon();
  } catch {
    // It was in no state to be left in order.
  }
  const { message, ...record } = toRecord(error);
  const why = `the machine was ended by an error of its own, which is a fault of Braid: ${message}`;
  send({ machine, report: { type: 'lost', error: { ...record, code: 'ERR_BRAID_WORKER', message: why } } });
}

/** As the first request to it wants. */
function runnerFor(first: Request | undefined, host: RunnerHost): Runner {
  const name = first?.type === 'call' ? first.name : undefined;
  if (name === 'openReplay') return new ReplayRunner(engine, host);
  if (name === 'path') return new PathRunner(engine, host);
  return new MachineRunner(engine, points, host);
}

/** A thread has died: nobody touches the pool until the main thread has counted anew. */
function standStill(gate: Int32Array): void {
  const all = [...runners.values()];
  send({ roots: all.flatMap((runner) => runner.roots), frames: all.flatMap((runner) => runner.frames) });
  Atomics.wait(gate, 0, 0);
}

/** Lets the machines run by turns, a few milliseconds each, as long as one of them has reason to. */
function run(): void {
  woken = true;
  if (running) return;
  running = true;
  try {
    while (woken) {
      woken = false;
      for (const [machine, runner] of [...runners]) {
        if (guarded(machine, () => runner.step())) woken = true;
        for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
          take(next.message);
          woken = true;
        }
      }
    }
  } finally {
    running = false;
  }
}

port.on('message', (message: ToWorker) => {
  take(message);
  run();
});

// What Node has compiled is kept for the next start, where the command asked for that; a process that is killed would not.
setTimeout(() => flushCompileCache(), 3000).unref();
