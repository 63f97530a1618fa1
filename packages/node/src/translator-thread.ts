/** The thread that translates: reads guest code in the pool, and sends back compiled modules. */

import { workerData } from 'node:worker_threads';
import { generateInterpreter } from '@braid/core/engine/interpreter.ts';
import { codeHostOf } from '@braid/core/engine/translator/module.ts';
import { type TranslationReply, translateBatch } from '@braid/core/engine/translator/service.ts';
import { POOL_MEMORY, Pool } from '@braid/core/memory/pool.ts';
import type { TranslationBatch, TranslatorSetup } from './translator.ts';

const { memory, port } = workerData as TranslatorSetup;
const pool = new Pool(undefined, undefined, memory);
// The interpreter itself is the other thread's; what its functions are called with is the same here.
const code = codeHostOf(generateInterpreter(0, POOL_MEMORY, 1));

port.onmessage = ({ data }: { data: TranslationBatch }) => {
  const { translation } = translateBatch(pool, data.requests, code);
  port.postMessage({ batch: data.batch, translation } satisfies TranslationReply);
};
