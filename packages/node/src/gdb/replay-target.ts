/** A replay as what a debugger debugs: it goes forwards and backwards, and nothing of it is changed. */

import { GdbError } from '@braid/core/gdb/errors.ts';
import type {
  DebugPoint,
  DebugStop,
  DebugTarget,
  DebugTask,
  MemoryOptions,
  RegisterValues,
  Resume,
} from '@braid/core/gdb/target.ts';
import { formatPosition } from '@braid/core/machine/log.ts';
import type { Hit } from '@braid/core/timeline/points.ts';
import type { TimelineStop } from '@braid/core/timeline/timeline.ts';
import type { Link } from '../pool/link.ts';
import type { Replay, ReplayWait, Where } from '../replay/replay.ts';
import type { DebugCall } from '../runner/debug-session.ts';

export interface ReplayTargetOptions {
  /** `monitor fork`: makes a machine that leaves the recording here, for another debugger; gives what to type there. */
  readonly fork: () => Promise<string>;
}

const UNITS: Readonly<Record<string, bigint>> = { s: 1_000_000_000n, ms: 1_000_000n, us: 1_000n, ns: 1n };
/** gdb does not ask anew after a command of a person. */
const STALE = 'gdb still shows where it was: maintenance flush register-cache';

export class ReplayTarget implements DebugTarget {
  readonly reversible = true;
  readonly writable = false;
  readonly harts: number;
  readonly commands = [
    ['when', 'where the replay stands: steps since the recording began, position, guest time'],
    ['marks', 'the moments that have a name'],
    ['seek MARK|#N|STEPS|+STEPS|-STEPS', 'go to a mark, by name or number, or to a number of steps'],
    ['seek ROUND:HART:STEP|TIME', 'go to a position, or a guest time such as 1.5s, 20ms'],
    ['seek begin|end', 'go to the recording’s beginning or end'],
    ['last-write ADDRESS [LENGTH]', 'who wrote last to bytes in memory; goes to before that'],
    ['hash', 'a hash of everything that was recorded of the machine, here'],
    ['fork', 'a machine that leaves the recording here, for another gdb; it goes when that one leaves'],
  ] as const;
  private readonly replay: Replay;
  private readonly link: Link;
  private readonly makeFork: () => Promise<string>;

  constructor(replay: Replay, link: Link, { fork }: ReplayTargetOptions) {
    this.replay = replay;
    this.link = link;
    this.harts = replay.info.harts;
    this.makeFork = fork;
  }

  async attach(): Promise<DebugStop> {
    return this.stopped('step');
  }

  async detach(): Promise<void> {}

  private call<T>(call: DebugCall): Promise<T> {
    return this.link.call('debug', call) as Promise<T>;
  }

  async remember(): Promise<() => Promise<void>> {
    const { at } = this.replay;
    return async () => void (await this.replay.seek({ at }));
  }

  tasks(): Promise<readonly DebugTask[]> {
    return this.call({ op: 'tasks' });
  }

  registers(hart: number): Promise<RegisterValues> {
    return this.call({ op: 'registers', hart });
  }

  async setRegister(): Promise<void> {
    throw new GdbError('a replay’s registers cannot be changed');
  }

  read(address: bigint, length: number, options: MemoryOptions): Promise<Uint8Array> {
    return this.call({ op: 'read', address, length, options });
  }

  async write(): Promise<void> {
    throw new GdbError('a replay’s memory cannot be changed');
  }

  // --- Running

  async resume(how: Resume, signal: AbortSignal): Promise<DebugStop> {
    const { replay } = this;
    const from = replay.at;
    try {
      return await this.go(how, { signal });
    } catch (error) {
      if (!signal.aborted) throw error;
      // Forwards it stays where it has come to. A search of the past has looked here and there, and goes back.
      await replay.step({ count: 0 });
      if (how.direction === 'backward') await replay.seek({ at: from });
      return this.stopped('interrupted');
    }
  }

  private async go(how: Resume, wait: ReplayWait): Promise<DebugStop> {
    const { replay } = this;
    const { points } = how;
    if (how.kind === 'step') return how.direction === 'forward' ? this.step(how, wait) : this.stepBack(how, wait);
    if (how.direction === 'forward') return this.stopOf(await replay.run({ ...wait, points, show: true }), points);
    if (points.length > 0) return this.before(this.stopOf(await replay.reverse(points, wait), points), points);
    await replay.seek({ at: 0n }, wait);
    return this.stopped('begin');
  }

  /** A step of a hart; others that run meanwhile may come to points. */
  private async step({ hart, range, points }: Resume, wait: ReplayWait): Promise<DebugStop> {
    const { replay } = this;
    for (;;) {
      const from = replay.at;
      const stop = await this.stepOnce(hart, wait);
      if ((replay.at - from > 1n && points.length > 0) || points.some(({ kind }) => kind !== 'break')) {
        const to = replay.at;
        await replay.seek({ at: from }, wait);
        const hit = await replay.run({ ...wait, points, to: { at: to } });
        if (hit.kind === 'hit') return this.stopOf(hit, points);
      }
      if (stop.kind === 'end') return this.stopped('end');
      const { pc = 0n } = range ? await this.registers(hart) : {};
      if (!range || pc < range.from || pc >= range.to) return { kind: 'step', hart };
    }
  }

  private stepOnce(hart: number, wait: ReplayWait): Promise<TimelineStop> {
    const { next, position } = this.replay;
    // Within its slice the next step is the hart's own. Otherwise it has to be looked for.
    return this.replay.step(next.hart === hart && position.step > 0 ? wait : { ...wait, hart });
  }

  private async stepBack({ hart, points }: Resume, wait: ReplayWait): Promise<DebugStop> {
    const { replay } = this;
    const from = replay.at;
    const stop = await replay.reverseStep({ ...wait, hart });
    const to = replay.at;
    if ((from - to > 1n && points.length > 0) || points.some(({ kind }) => kind !== 'break')) {
      // The last one on the way, and no breakpoint where the step leads to.
      const hit = await this.lastHit(to, from, points, wait);
      if (hit) return hit;
    }
    return stop.kind === 'begin' ? this.stopped('begin') : { kind: 'step', hart };
  }

  /** The last point that is come to from one moment on and before another, where it goes then; or it stays at the first moment. */
  private async lastHit(
    from: bigint,
    to: bigint,
    points: readonly DebugPoint[],
    wait: ReplayWait,
  ): Promise<DebugStop | undefined> {
    const { replay } = this;
    let last: Hit | undefined;
    for (;;) {
      const stop = await replay.run({ ...wait, points, to: { at: to } });
      if (stop.kind !== 'hit') break;
      last = stop.hit;
      if (replay.at >= to) break;
      // Before a breakpoint's instruction: on, behind it.
      if (replay.at === last.at) await replay.step(wait);
    }
    await replay.seek({ at: last?.at ?? from }, wait);
    return last && this.before(this.stopOf({ kind: 'hit', hit: last }, points), points);
  }

  /**
   * A stop before an instruction that writes to what is watched, and is at a breakpoint too. gdb looks at one of both: at the watchpoint if
   * the value is another one behind the instruction, or it would go on.
   */
  private async before(stop: DebugStop, points: readonly DebugPoint[]): Promise<DebugStop> {
    const { hart, point } = stop;
    if (point?.kind !== 'write') return stop;
    const { pc } = await this.registers(hart);
    const here = points.find(({ kind, address }) => kind === 'break' && address === pc);
    if (!here) return stop;
    const before = await this.read(point.address, point.length, { hart });
    await this.replay.step();
    const after = await this.read(point.address, point.length, { hart });
    await this.replay.reverseStep();
    return before.every((byte, n) => byte === after[n]) ? { kind: 'breakpoint', hart, point: here } : stop;
  }

  private stopOf(stop: TimelineStop, points: readonly DebugPoint[]): DebugStop {
    if (stop.kind === 'begin' || stop.kind === 'end') return this.stopped(stop.kind);
    if (stop.kind === 'there') return this.stopped('step');
    const { hit } = stop;
    const point = points[hit.point]!;
    const hart = hit.hart ?? this.replay.next.hart;
    if (point.kind === 'break') return { kind: 'breakpoint', hart, point };
    return { kind: 'watchpoint', hart, point, address: hit.address };
  }

  private stopped(kind: DebugStop['kind']): DebugStop {
    return { kind, hart: this.replay.next.hart };
  }

  // --- Commands

  async monitor([name, ...words]: readonly string[]): Promise<string> {
    const { replay } = this;
    switch (name) {
      case 'when':
        return this.when();
      case 'marks':
        return this.marks();
      case 'seek':
        await replay.seek(this.where(words.join(' ')));
        return `${this.when()}\n${STALE}`;
      case 'last-write':
        return this.lastWrite(words);
      case 'hash':
        return replay.stateHash();
      case 'fork':
        return `a machine has left the recording here; in another gdb: ${await this.makeFork()}`;
      default:
        throw new GdbError(`there is no command ${name}: see monitor help`);
    }
  }

  private when(): string {
    const { at, end, position, time, next } = this.replay;
    const pc = `hart ${next.hart} is next, at 0x${next.pc.toString(16)}`;
    return `step ${at} of ${end.at}, position ${formatPosition(position)}, guest time ${seconds(time)}; ${pc}`;
  }

  private marks(): string {
    const lines = this.replay.marks.map(({ at, time, kind, name }, n) => {
      const what = name === '' ? kind : `${kind} ${name}`;
      return `#${n}  step ${at}  ${seconds(time)}  ${what}`;
    });
    return lines.length === 0 ? 'the recording has no marks' : lines.join('\n');
  }

  private where(text: string): Where {
    const { replay } = this;
    if (text === 'begin') return { at: 0n };
    if (text === 'end') return { at: replay.end.at };
    if (/^\d+$/.test(text)) return { at: BigInt(text) };
    if (/^[+-]\d+$/.test(text)) return { at: replay.at + BigInt(text) };
    const numbered = /^#(\d{1,9})$/.exec(text);
    if (numbered) {
      const mark = replay.marks[Number(numbered[1])];
      if (!mark) throw new GdbError(`there is no mark ${text}: see monitor marks`);
      return mark;
    }
    const position = /^(\d+):(\d{1,3}):(\d{1,10})$/.exec(text);
    if (position) {
      const [, round, hart, step] = position;
      return { position: { round: BigInt(round!), hart: Number(hart), step: Number(step) } };
    }
    const time = /^(\d+)(?:\.(\d{1,9}))?(s|ms|us|ns)$/.exec(text);
    if (time) {
      const [, whole, fraction = '', unit] = time;
      const scale = UNITS[unit!]!;
      return { time: BigInt(whole!) * scale + (BigInt(fraction.padEnd(9, '0')) * scale) / 1_000_000_000n };
    }
    if (text === '') throw new GdbError('where to? see monitor help');
    return text;
  }

  private async lastWrite([where = '', count = '1']: readonly string[]): Promise<string> {
    if (!/^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(where) || !/^\d{1,5}$/.test(count) || Number(count) < 1)
      throw new GdbError('monitor last-write ADDRESS [LENGTH], for example 0x80001000 8');
    const address = BigInt.asUintN(64, BigInt(where));
    const written = await this.replay.lastWrite(address, { length: Number(count) });
    switch (written.kind) {
      case 'before':
        return 'nobody has written there since the recording began';
      case 'replaced':
        return `the machine's state was replaced at step ${written.at}, and nobody has written there since`;
      case 'write': {
        const { hart } = written.hit;
        return `${hart === undefined ? 'a device or the host' : `hart ${hart}`} wrote there. ${this.when()}\n${STALE}`;
      }
    }
  }
}

function seconds(ns: bigint): string {
  return `${ns / 1_000_000_000n}.${(ns % 1_000_000_000n).toString().padStart(9, '0')} s`;
}
