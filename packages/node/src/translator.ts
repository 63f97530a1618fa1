/** Translation on a thread of its own, which shares the pool with the machine's thread; it is started when something is first hot. */

import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type {
  TranslationReply,
  TranslationRequest,
  TranslationService,
} from '@braid/core/engine/translator/service.ts';
import type { Pool } from '@braid/core/memory/pool.ts';

/** What the thread is sent: a batch of hot places. */
export interface TranslationBatch {
  readonly batch: number;
  readonly requests: readonly TranslationRequest[];
}

/** What the thread is started with. */
export interface TranslatorSetup {
  readonly memory: WebAssembly.Memory;
  readonly port: MessagePort;
}

export class TranslatorThread implements TranslationService {
  private readonly pool: Pool;
  private port: MessageChannel['port1'] | undefined;

  constructor(pool: Pool) {
    this.pool = pool;
  }

  private start(): MessageChannel['port1'] {
    const { port1, port2 } = new MessageChannel();
    const worker = new Worker(new URL('./translator-thread.ts', import.meta.url), {
      workerData: { memory: this.pool.memory, port: port2 },
      transferList: [port2],
      resourceLimits: { maxYoungGenerationSizeMb: 8 },
    });
    // A thread that fails would leave the machine slow for no visible reason.
    worker.on('error', (error) => {
      throw error;
    });
    worker.unref();
    port1.unref();
    return port1;
  }

  request(batch: number, requests: readonly TranslationRequest[]): void {
    this.port ??= this.start();
    this.port.postMessage({ batch, requests } satisfies TranslationBatch);
  }

  take(): readonly TranslationReply[] {
    const replies: TranslationReply[] = [];
    for (let next = receiveMessageOnPort(this.port!); next; next = receiveMessageOnPort(this.port!)) {
      replies.push(next.message);
    }
    return replies;
  }
}
