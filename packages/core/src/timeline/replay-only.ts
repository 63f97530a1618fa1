/**
 * Replay-only code of guest programs (`docs/replay-only.md`): run in diversions of a machine that replays, where it was skipped.
 *
 *     const code = new ReplayOnly(machine, { codes: [7n] });
 *     for (;;) {
 *       const stop = machine.run();
 *       const ran = code.serve(stop);     // the machine stands before the code, and stands there still
 *       if (ran) show(ran.output);
 *       ...
 *     }
 */

import type { Machine } from '../machine/machine.ts';
import type { Stop } from '../machine/options.ts';
import type { CapturedOutput } from './captured-output.ts';
import { Diversion, DiversionError, type DiversionOptions } from './diversion.ts';
import { isThreadOf } from './guest-thread.ts';

export interface ReplayOnlyOptions extends DiversionOptions {
  /** The numbers of the code that is run. */
  readonly codes: Iterable<bigint> | 'all';
}

/** A run of replay-only code. */
export interface ReplayOnlyRun {
  readonly code: bigint;
  readonly hart: number;
  readonly output: CapturedOutput;
  /** Steps of all harts. */
  readonly steps: bigint;
  /** Why it did not come to its end. The replay goes on all the same. */
  readonly error: DiversionError | undefined;
}

/** The hint's result register, t0. */
const RESULT = 5;
/** Code within code: deeper than this it is taken for endless. */
const MAX_DEPTH = 1000;

export class ReplayOnly {
  private readonly machine: Machine;
  private readonly options: ReplayOnlyOptions;
  private readonly codes: ReadonlySet<bigint> | 'all';
  private readonly id: number;

  /** From now on runs of the machine end where code begins that is to be run. */
  constructor(machine: Machine, options: ReplayOnlyOptions) {
    this.machine = machine;
    this.options = options;
    this.codes = options.codes === 'all' ? 'all' : new Set(options.codes);
    this.id = machine.interceptions.add({
      kind: 'replay-only',
      condition: ({ phase, code }) => phase === 'begin' && this.isAsked(code),
    });
  }

  /** Where a run of the machine has ended: runs the code if that is why. Throws `PoolFullError` and `MachineError` as a fork does. */
  serve(stop: Stop): ReplayOnlyRun | undefined {
    if (stop.reason !== 'replay-only' || !stop.ids.includes(this.id)) return undefined;
    const { hart, code } = stop;
    const diversion = Diversion.of(this.machine, hart, this.options);
    const { output } = diversion;
    diversion.purpose = `replay-only code ${code} on hart ${hart}`;
    const ran = (error?: DiversionError): ReplayOnlyRun => ({ code, hart, output, steps: diversion.made, error });
    try {
      this.runToEnd(diversion, code);
      return ran();
    } catch (error) {
      if (error instanceof DiversionError) return ran(error);
      throw error;
    } finally {
      diversion.free();
    }
  }

  /** Runs of the machine end there no longer. */
  end(): void {
    this.machine.interceptions.delete(this.id);
  }

  private isAsked(code: bigint): boolean {
    return this.codes === 'all' || this.codes.has(code);
  }

  /** To the end of the code that has begun, and of code within it; that of other threads is skipped as ever. */
  private runToEnd(diversion: Diversion, code: bigint): void {
    const { machine, thread } = diversion;
    machine.interceptions.add({
      kind: 'replay-only',
      condition: ({ hart, code }) => this.isAsked(code) && isThreadOf(machine, hart, thread),
    });
    const open = [code];
    enter(machine, diversion.hart);
    while (open.length > 0) {
      const stop = diversion.run();
      if (stop.reason !== 'replay-only') continue;
      if (stop.phase === 'begin') {
        if (open.length === MAX_DEPTH)
          throw diversion.error('steps', `${MAX_DEPTH} pieces of code lie within each other`);
        open.push(stop.code);
        enter(machine, stop.hart);
      } else {
        // One that was never begun ends nothing; what lies within one that ends has ended too.
        const at = open.lastIndexOf(stop.code);
        if (at >= 0) open.length = at;
      }
    }
  }
}

/** From before the hint that begins code to behind it, as if it had said that the code is to be run. */
function enter({ hartSet }: Machine, hart: number): void {
  const record = hartSet.record(hart);
  record.setX(RESULT, 1n);
  record.set('pc', record.get('pc') + 4n);
}
