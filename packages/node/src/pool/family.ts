/** Who shares a pool. */

import type { Pool } from './pool.ts';

/** The machines of a pool that is theirs: it goes with the last one. */
export class Family {
  readonly pool: Pool;
  private readonly own: boolean;
  private members = 0;

  constructor(pool: Pool, own: boolean) {
    this.pool = pool;
    this.own = own;
  }

  joined(): void {
    this.members++;
  }

  async left(): Promise<void> {
    this.members--;
    if (this.own && this.members <= 0) await this.pool.dispose();
  }
}
