/** A translation service that takes its time, counted in looks for its replies, so that runs can be repeated. */

import { generateInterpreter } from '../engine/interpreter.ts';
import { codeHostOf } from '../engine/translator/module.ts';
import {
  type TranslationReply,
  type TranslationRequest,
  type TranslationService,
  translateBatch,
} from '../engine/translator/service.ts';
import { POOL_MEMORY, type Pool } from '../memory/pool.ts';

/** What it translates is the code as it is when asked for; the reply is there at the `late`th look behind. */
export class LateService implements TranslationService {
  private readonly pool: Pool;
  private readonly late: number;
  private readonly code = codeHostOf(generateInterpreter(0, POOL_MEMORY, 1));
  private looks = 0;
  private readonly ready: { at: number; reply: TranslationReply }[] = [];

  constructor(pool: Pool, late: number) {
    this.pool = pool;
    this.late = late;
  }

  request(batch: number, requests: readonly TranslationRequest[]): void {
    const { translation } = translateBatch(this.pool, requests, this.code);
    this.ready.push({ at: this.looks + this.late, reply: { batch, translation } });
  }

  take(): readonly TranslationReply[] {
    this.looks++;
    const count = this.ready.findIndex(({ at }) => at > this.looks);
    return this.ready.splice(0, count < 0 ? this.ready.length : count).map(({ reply }) => reply);
  }
}
