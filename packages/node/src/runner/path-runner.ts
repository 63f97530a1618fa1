/** A clone that goes one way of a branch that the host has chosen: it is called once, and answers where it came to. */

import type { BranchPath } from '@braid/core/branch/path.ts';
import type { Engine } from '@braid/core/engine/engine.ts';
import { BraidError } from '../errors.ts';
import type { Calls, Request } from '../pool/protocol.ts';
import { assemblePath, type DiskFile } from './assemble.ts';
import { Reports } from './reports.ts';
import type { Runner, RunnerHost } from './thread.ts';

/** Steps of a turn. */
const TURN_STEPS = 1_000_000;

export class PathRunner implements Runner {
  private readonly engine: Engine;
  private readonly host: RunnerHost;
  private readonly reports: Reports;
  private files: readonly DiskFile[] = [];
  /** The call that waits for its end, until then. */
  private way: { readonly id: number; readonly path: BranchPath } | undefined;

  constructor(engine: Engine, host: RunnerHost) {
    this.engine = engine;
    this.host = host;
    this.reports = new Reports(host);
  }

  get roots(): readonly number[] {
    return this.way?.path.roots ?? [];
  }

  get frames(): readonly number[] {
    return [];
  }

  abandon(): void {
    for (const file of this.files) file.close();
  }

  handle(request: Request): void {
    if (request.type !== 'call') return;
    const { id, name, args } = request;
    try {
      if (name === 'path') this.begin(id, args);
      else if (name === 'dispose') this.reports.result(id, this.dispose());
      else throw new BraidError('ERR_BRAID_BRANCH', `a clone on its way to a decision cannot "${name}"`);
    } catch (error) {
      this.reports.error(id, error);
    }
  }

  private begin(id: number, { point, host, way }: Calls['path'][0]): void {
    const { path, files } = assemblePath(this.engine, host.setup, point, way);
    this.files = files;
    this.way = { id, path };
    this.host.wake();
  }

  step(): boolean {
    if (!this.way) return false;
    const { id, path } = this.way;
    try {
      if (path.run(TURN_STEPS) === 'running') return true;
    } catch (error) {
      this.end();
      this.reports.error(id, error);
      if (!(error as Partial<BraidError>).code) throw error;
      return false;
    }
    this.end();
    this.reports.result(id, path.end);
    return false;
  }

  private end(): void {
    this.way?.path.free();
    this.way = undefined;
  }

  private dispose(): Calls['dispose'][1] {
    this.end();
    for (const file of this.files) file.close();
    this.host.gone();
    return [];
  }
}
