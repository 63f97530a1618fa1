/**
 * Finds where two runs part: the first step after which a guest could tell them apart.
 *
 * Both are run side by side and compared by hash after stretches that grow; then the stretch in which they part is halved, from
 * states saved at its start, until one step is left. With saved states a run of N steps costs about 3 N. They say nothing, though,
 * about what is no state: when the runs do not part again from saved states, as with a cache that holds something stale, every
 * probe starts from the beginning instead, which costs N each.
 */

import { disassemble } from '../isa/print.ts';
import { stateHash } from '../machine/hash.ts';
import { formatPosition, LogReader, type Position } from '../machine/log.ts';
import type { Machine } from '../machine/machine.ts';
import { type MachineState, restoreMachine, saveMachine } from '../machine/save.ts';
import { type Difference, differences, formatDifferences } from './differences.ts';

export interface BisectOptions {
  /** Steps after which two runs that are still equal count as equal. */
  readonly maxSteps: number;
  /** Length of the first stretch; each is twice as long as the one before. */
  readonly firstStretch?: number;
  /** Called after each comparison: the steps that both runs had made, and whether they were equal. */
  readonly progress?: (steps: number, equal: boolean) => void;
}

export interface Parting {
  /** Steps that each run has made since its start when they first differ. */
  readonly steps: number;
  /** Where that last step began: the runs were equal there. Of run A where they differ from the start. */
  readonly position: Position;
  /** Where each run is afterwards. */
  readonly after: { readonly a: Position; readonly b: Position };
  /** The hart that made the step, and its instruction, if it lies in RAM and translation is simple enough to say. */
  readonly instruction: string | undefined;
  readonly differences: readonly Difference[];
  /** They part only when they are run from the start: what differs between them is not all state. */
  readonly onlyFromStart: boolean;
}

/**
 * `makeA` and `makeB` make the machines at the start of their runs, each time anew and equal; what comes to them from outside comes
 * from a log that they follow. Undefined: the runs are equal for `maxSteps` steps or to their common end.
 */
export function bisect(makeA: () => Machine, makeB: () => Machine, options: BisectOptions): Parting | undefined {
  const a = new Run(makeA);
  const b = new Run(makeB);
  try {
    return search(a, b, options);
  } finally {
    a.free();
    b.free();
  }
}

/** Finds the parting and describes it. */
function search(a: Run, b: Run, { maxSteps, firstStretch = 1000, progress }: BisectOptions): Parting | undefined {
  const equal = (steps: number): boolean => {
    // Both, whatever the first gives: each has to be there for the next comparison.
    const [inA, inB] = [a.to(steps), b.to(steps)];
    const same = inA === inB;
    progress?.(steps, same);
    return same;
  };
  let good = 0;
  let bad = 0;
  if (equal(0)) {
    a.keep();
    b.keep();
    for (let stretch = firstStretch; ; stretch *= 2) {
      bad = Math.min(good + stretch, maxSteps);
      if (!equal(bad)) break;
      if (bad === maxSteps || (a.ended && b.ended)) return undefined;
      good = bad;
      a.keep();
      b.keep();
    }
    const found = [a.to(bad), b.to(bad)];
    a.back();
    b.back();
    // Runs with a stale cache in them may part otherwise, or not at all, when they start from a state.
    if (a.to(bad) !== found[0] || b.to(bad) !== found[1]) {
      a.fromStart = true;
      b.fromStart = true;
    }
    while (bad - good > 1) {
      const middle = good + Math.floor((bad - good) / 2);
      a.back();
      b.back();
      if (equal(middle)) {
        good = middle;
        a.keep();
        b.keep();
      } else bad = middle;
    }
    a.back();
    b.back();
    a.to(good);
    b.to(good);
  }
  const { position } = a.machine;
  const instruction = bad === 0 ? undefined : nextInstruction(a.machine);
  a.to(bad);
  b.to(bad);
  return {
    steps: bad,
    position,
    after: { a: a.machine.position, b: b.machine.position },
    instruction,
    differences: differences(a.machine, b.machine),
    onlyFromStart: a.fromStart,
  };
}

/** One of the two runs, with a point to come back to. */
class Run {
  machine: Machine;
  /** No step follows any more. */
  ended = false;
  /** Whether `back` goes to the start, and not to what was kept. */
  fromStart = false;
  private readonly make: () => Machine;
  private begin: bigint;
  private kept: { state: MachineState; log: LogReader | undefined; at: bigint } | undefined;

  constructor(make: () => Machine) {
    this.make = make;
    this.machine = make();
    this.begin = this.machine.totalSteps;
  }

  /** Runs on until so many steps are made since the start, or to the end of the run; gives the hash there. */
  to(steps: number): string {
    const target = this.begin + BigInt(steps);
    this.ended = false;
    do {
      const { reason } = this.machine.run(Number(target - this.machine.totalSteps));
      if (reason === 'stalled')
        throw new RangeError('a disk of this run answers late: give it one whose content is at hand');
      this.ended = reason === 'exit' || reason === 'idle';
    } while (this.machine.totalSteps < target && !this.ended);
    return stateHash(this.machine);
  }

  keep(): void {
    const { machine } = this;
    // Disks are no part of a saved state.
    if (this.fromStart || machine.platform.disks.length > 0) {
      this.kept = undefined;
      return;
    }
    const log = machine.following;
    this.kept = { state: saveMachine(machine), log: log && new LogReader(log.log, log.index), at: machine.totalSteps };
  }

  back(): void {
    const { kept, machine } = this;
    this.ended = false;
    if (kept && !this.fromStart) {
      const { net, epoch } = machine.options;
      const attachments = { ...(net ? { net } : {}), ...(epoch === undefined ? {} : { epoch }) };
      machine.free();
      this.machine = restoreMachine(machine.engine, kept.state, attachments);
      this.machine.follow(kept.log && new LogReader(kept.log.log, kept.log.index));
    } else {
      machine.free();
      this.machine = this.make();
      this.begin = this.machine.totalSteps;
    }
  }

  free(): void {
    this.machine.free();
  }
}

/** What the machine is about to do, for people. */
function nextInstruction(machine: Machine): string | undefined {
  const { hart } = machine.schedule;
  const pc = machine.hartSet.get(hart, 'pc');
  const physical = machine.physical(hart, pc);
  if (physical === undefined) return undefined;
  const bytes = new Uint8Array(4);
  // The second half may lie in a page elsewhere; then what is printed is a guess for a long instruction.
  if (!machine.ram.read(Number(physical), bytes)) return undefined;
  const bits = new DataView(bytes.buffer).getUint32(0, true);
  return `hart ${hart} at 0x${pc.toString(16)}: ${disassemble((bits & 3) === 3 ? bits : bits & 0xffff, pc)}`;
}

/** A parting in a few lines. */
export function formatParting(parting: Parting): string {
  const { steps, position, after, instruction, onlyFromStart } = parting;
  return (
    `the runs part in step ${steps}, which began at ${formatPosition(position)}\n` +
    (instruction ? `${instruction}\n` : '') +
    `then A is at ${formatPosition(after.a)}, B at ${formatPosition(after.b)}\n` +
    (onlyFromStart ? 'from a state saved in between they do not part so: something besides the state differs\n' : '') +
    formatDifferences(parting.differences)
  );
}
