/** A replay in its thread: its calls, and what it shows of the guest meanwhile. */

import type { Engine } from '@braid/core/engine/engine.ts';
import { GdbError } from '@braid/core/gdb/errors.ts';
import { recordedHash } from '@braid/core/machine/hash.ts';
import { BraidError } from '../errors.ts';
import type { CallName, Calls, Request } from '../pool/protocol.ts';
import { isLook, look } from './debug-session.ts';
import { Replayer } from './replayer.ts';
import { Reports } from './reports.ts';
import { physical } from './results.ts';
import type { Runner, RunnerHost } from './thread.ts';

export class ReplayRunner implements Runner {
  private readonly engine: Engine;
  private readonly host: RunnerHost;
  private readonly reports: Reports;
  private replayer: Replayer | undefined;

  constructor(engine: Engine, host: RunnerHost) {
    this.engine = engine;
    this.host = host;
    this.reports = new Reports(host);
  }

  get roots(): readonly number[] {
    return this.replayer?.timeline.roots ?? [];
  }

  get frames(): readonly number[] {
    return this.replayer?.timeline.frames ?? [];
  }

  abandon(): void {
    this.replayer?.free();
  }

  handle(request: Request): void {
    if (request.type === 'cancel') this.replayer?.cancel(request.id);
    if (request.type === 'taken') this.reports.taken(request.bytes);
    if (request.type !== 'call') return;
    const { id, name, args } = request;
    try {
      if (name === 'replay') this.opened().ask(id, args);
      else this.reports.result(id, this.answer(name, args as never));
    } catch (error) {
      this.reports.error(id, error);
    }
  }

  step(): boolean {
    if (this.reports.behind) return false;
    try {
      return this.replayer?.step() ?? false;
    } finally {
      this.reports.flush();
    }
  }

  private opened(): Replayer {
    if (!this.replayer) throw new BraidError('ERR_BRAID_DISPOSED', 'the replay has been disposed of');
    return this.replayer;
  }

  /** The result of a call that needs no run. */
  private answer(name: CallName, args: never): unknown {
    if (name === 'openReplay') return this.open(args);
    if (name === 'dispose') return this.dispose();
    const replayer = this.opened();
    const { hooks, timeline } = replayer;
    switch (name) {
      case 'written':
        return replayer.written(args);
      case 'physical':
        return physical(timeline.machine, args);
      case 'debug':
        return this.debug(replayer, args);
      case 'hook':
        return hooks.add(args);
      case 'unhook':
        return hooks.delete((args as Calls['unhook'][0]).hook);
      case 'release':
        return replayer.release();
      case 'callGuest':
        return hooks.call(args);
      case 'divert':
        return replayer.divert();
      case 'stateHash':
        return recordedHash(timeline.machine);
      default:
        throw new BraidError('ERR_BRAID_OPTION', `a replay cannot "${name}"; divert from it first`);
    }
  }

  private open({ path, show }: Calls['openReplay'][0]): Calls['openReplay'][1] {
    const { host, reports } = this;
    const console = (bytes: Uint8Array) => reports.console(bytes);
    const program = (stream: 'stdout' | 'stderr', bytes: Uint8Array) =>
      reports.say({ type: 'overheard', stream, bytes });
    this.replayer = new Replayer(this.engine, path, show ? { console, terminal: console, program } : {}, {
      hooked: (hit) => host.report({ type: 'hooked', hit }),
      replayOnly: (run) => reports.say({ type: 'replay-only', run }),
      result: (id, answer) => reports.result(id, answer),
      failed: (id, error) => reports.error(id, error),
      progress: (id, at) => host.report({ type: 'progress', id, at }),
      get behind() {
        return reports.behind;
      },
    });
    return this.replayer.standing;
  }

  private debug({ timeline }: Replayer, call: Calls['debug'][0]): unknown {
    if (isLook(call)) return look(timeline.machine, call);
    throw new GdbError('a replay is what was recorded: it cannot be changed');
  }

  private dispose(): Calls['dispose'][1] {
    this.replayer?.free();
    this.replayer = undefined;
    this.reports.flush();
    this.host.gone();
    return [];
  }
}
