/** The thread of a machine: an engine, and the runner that serves requests. Starts to compile the engine before it is asked. */

import { flushCompileCache } from 'node:module';
import { parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { Engine } from '@braid/core/engine/engine.ts';
import { Pool } from '@braid/core/memory/pool.ts';
import type { Request } from './protocol.ts';
import { Runner } from './runner.ts';

const port = parentPort!;
const runner = new Runner(new Engine(new Pool()), {
  report: (report, transfer) => port.postMessage(report, transfer),
  drain: () => {
    for (let message = receiveMessageOnPort(port); message; message = receiveMessageOnPort(port)) take(message.message);
  },
});

function take(batch: readonly Request[]): void {
  for (const request of batch) runner.handle(request);
}

port.on('message', (batch: readonly Request[]) => {
  take(batch);
  runner.advance();
});

// What Node has compiled is kept for the next start, where the command asked for that; a process that is killed would not.
setTimeout(() => flushCompileCache(), 3000).unref();
