/**
 * `braid bisect`: two machines side by side, and the first step after which they differ.
 *
 * Both run in this thread, in virtual time. Their hashes are compared at growing distances; each time that they are equal both
 * are saved. Once they differ, the interval is halved again and again: the machines are restored at its beginning and follow the
 * event logs of their own first runs, so that nothing from outside can make a difference.
 */

import { MemoryBackend } from '@braid/core/devices/virtio-block/backend.ts';
import { Engine } from '@braid/core/engine/engine.ts';
import { stateHash } from '@braid/core/machine/hash.ts';
import { type EventLog, formatPosition, LogReader, type Position } from '@braid/core/machine/log.ts';
import { Machine } from '@braid/core/machine/machine.ts';
import { type MachineState, restoreMachine, saveMachine } from '@braid/core/machine/save.ts';
import { Pool } from '@braid/core/memory/pool.ts';
import { escapeGuestText } from '@braid/core/text/escape.ts';
import { Command } from 'commander';
import { BraidError } from '../errors.ts';
import { readWhole } from '../files.ts';
import { setupOf } from '../options.ts';
import type { Setup } from '../pool/protocol.ts';
import { addMachineOptions, createOptions, type RunFlags } from './flags.ts';
import { refuseRepeats } from './repeats.ts';
import { print, printJson } from './say.ts';

const SHOWN = 12;
/** Bytes of a disk, all of which is held several times. */
const LARGEST_DISK = 2 ** 30;

/** A disk, which the subject may write. */
interface Disk {
  readonly bytes: Uint8Array;
  readonly readOnly: boolean;
}

/** A state to come back to. */
interface Saved {
  readonly steps: bigint;
  readonly state: MachineState;
  readonly disks: readonly Uint8Array[];
  /** Events of the log that were before it. */
  readonly events: number;
}

/** One of the two machines. */
class Subject {
  private readonly engine = new Engine(new Pool());
  private readonly setup: Setup;
  private backends: MemoryBackend[];
  private machine: Machine;
  private readonly log: EventLog;
  private reader: LogReader | undefined;
  /** Nothing more will happen. */
  over = false;

  constructor(setup: Setup, disks: readonly Disk[], argv: readonly string[] | undefined) {
    this.setup = setup;
    this.backends = disks.map(({ bytes, readOnly }) => {
      if (bytes.length === 0 || bytes.length % 512 !== 0) {
        throw new BraidError('ERR_BRAID_FILE', `a disk of ${bytes.length} bytes: give a multiple of 512`);
      }
      return new MemoryBackend(bytes, readOnly);
    });
    const { boot, memory, harts, seed, epoch } = setup;
    const slice = setup.slice === undefined ? {} : { slice: setup.slice };
    const attached = this.backends.map((backend) => ({ backend }));
    const machine = new Machine(this.engine, { boot: boot!, memory, harts, seed, epoch, disks: attached, ...slice });
    machine.watchHostInterface();
    machine.input({ kind: 'skip-idle', on: true });
    if (setup.console === 'virtio') machine.input({ kind: 'port-open', port: 0, open: true });
    if (argv) {
      machine.agent.exec(
        { argv },
        {
          output: () => {},
          exit: () => {
            this.over = true;
            machine.interrupt();
          },
        },
      );
    }
    this.machine = machine;
    this.log = machine.log;
  }

  get steps(): bigint {
    return this.machine.totalSteps;
  }

  get position(): Position {
    return this.machine.position;
  }

  get hash(): string {
    return stateHash(this.machine);
  }

  get state(): MachineState {
    return saveMachine(this.machine);
  }

  /** Runs until so many steps are made in all, or nothing more happens. */
  runTo(steps: bigint): void {
    while (this.steps < steps && (this.reader || !this.over)) {
      const left = steps - this.steps;
      const stop = this.machine.run(left > 50_000_000n ? 50_000_000 : Number(left));
      if (stop.reason === 'exit' || stop.reason === 'idle') {
        this.over = true;
        return;
      }
    }
  }

  save(): Saved {
    const disks = this.backends.map((backend) => (backend.readOnly ? backend.bytes : backend.bytes.slice()));
    return { steps: this.steps, state: this.state, disks, events: this.reader?.index ?? this.log.length };
  }

  /** Back to a saved state; from there on the first run is repeated. */
  restore({ state, disks, events }: Saved): void {
    this.machine.free();
    this.backends = disks.map((bytes, n) => {
      const { readOnly } = this.backends[n]!;
      return new MemoryBackend(readOnly ? bytes : bytes.slice(), readOnly);
    });
    const attached = this.backends.map((backend) => ({ backend }));
    this.machine = restoreMachine(this.engine, state, { disks: attached, epoch: this.setup.epoch });
    this.reader = new LogReader(this.log, events);
    this.machine.follow(this.reader);
  }
}

export async function bisect(
  flags: { every: bigint; maxSteps: bigint; json?: boolean },
  rest: readonly string[],
): Promise<number> {
  const versus = rest.indexOf('--versus');
  if (versus < 0) {
    throw new BraidError(
      'ERR_BRAID_OPTION',
      'give two machines: braid bisect -- [run options of A] --versus [run options of B]',
    );
  }
  const limit = flags.maxSteps;
  const progress = process.stderr.isTTY && !flags.json ? await showProgress() : undefined;
  const [a, b] = await Promise.all([subject(rest.slice(0, versus)), subject(rest.slice(versus + 1))]);
  let same = { steps: 0n, a: a.save(), b: b.save() };
  const goTo = (steps: bigint) => {
    a.restore(same.a);
    b.restore(same.b);
    a.runTo(steps);
    b.runTo(steps);
  };
  let distance = flags.every;
  if (distance < 1n) distance = 1n;
  let differ: bigint | undefined = a.hash === b.hash ? undefined : 0n;
  for (let steps = distance; differ === undefined; steps += distance) {
    progress?.(`The same for ${same.steps} steps`);
    let target = steps;
    if (target > limit) target = limit;
    a.runTo(target);
    b.runTo(target);
    if (a.steps !== b.steps) {
      // One of them has ended: are they the same up to there?
      let end = a.steps;
      if (b.steps < end) end = b.steps;
      goTo(end);
      if (a.hash === b.hash) return equal(end, flags.json);
      differ = end;
    } else if (a.hash !== b.hash) differ = a.steps;
    else if (target === limit || a.over) return equal(a.steps, flags.json);
    else {
      same = { steps: a.steps, a: a.save(), b: b.save() };
      distance *= 2n;
    }
  }
  while (differ - same.steps > 1n) {
    progress?.(`They differ between ${same.steps} and ${differ} steps`);
    const middle: bigint = (same.steps + differ) / 2n;
    goTo(middle);
    if (a.hash !== b.hash) differ = middle;
    else same = { steps: middle, a: a.save(), b: b.save() };
  }
  if (differ > 0n) goTo(differ);
  return report(same.steps, differ, a, b, flags.json);
}

/** Says on the terminal how far we are, a line at a time. */
async function showProgress() {
  const { log } = await import('@clack/prompts');
  return (message: string) => log.step(message, { output: process.stderr, spacing: 0 });
}

async function subject(args: readonly string[]): Promise<Subject> {
  const split = args.indexOf('--');
  const own = split < 0 ? args : args.slice(0, split);
  const parser = refuseRepeats(addMachineOptions(new Command('run').argument('[image]').exitOverride()));
  parser.parse([...own], { from: 'user' });
  const options = createOptions(parser.args[0], parser.opts<RunFlags>(), 'virtual');
  // Without a seed both have the same one.
  const setup = await setupOf({ seed: 1n, ...options });
  const disks = await Promise.all(
    setup.disks.map(async (disk) => ({
      bytes: 'bytes' in disk ? disk.bytes.slice() : await readWhole('disk', disk.path, LARGEST_DISK),
      readOnly: disk.readOnly,
    })),
  );
  return new Subject(setup, disks, split < 0 ? undefined : args.slice(split + 1));
}

function equal(steps: bigint, json: boolean | undefined): number {
  if (json) printJson({ equal: true, steps: Number(steps) });
  else print(`No difference in ${steps} steps.`);
  return 0;
}

function report(same: bigint, differ: bigint, a: Subject, b: Subject, json: boolean | undefined): number {
  const paths = differences(a.state, b.state);
  if (json) {
    const record = {
      equal: false,
      lastEqual: Number(same),
      firstDifferent: Number(differ),
      a: formatPosition(a.position),
      b: formatPosition(b.position),
      paths,
    };
    printJson(record);
    return 1;
  }
  const where = differ === 0n ? 'They differ at power-on' : `Equal after ${same} steps, different after ${differ}`;
  print(`${where} (position ${formatPosition(a.position)} in A, ${formatPosition(b.position)} in B).`);
  for (const path of paths.slice(0, SHOWN)) print(`  ${path}`);
  if (paths.length > SHOWN) print(`  and ${paths.length - SHOWN} more`);
  return 1;
}

/** Where two records differ, and what is there; RAM by its pages. */
function differences(a: MachineState, b: MachineState): string[] {
  const found: string[] = [];
  const show = (value: unknown) =>
    escapeGuestText(
      typeof value === 'bigint'
        ? `0x${value.toString(16)}`
        : value instanceof Uint8Array
          ? `${value.length} bytes`
          : String(value),
      { limit: 60 },
    );
  const visit = (path: string, x: unknown, y: unknown): void => {
    if (x === y) return;
    if (x instanceof Uint8Array && y instanceof Uint8Array) {
      if (Buffer.compare(x, y) !== 0) found.push(`${path}: bytes differ`);
    } else if (typeof x === 'object' && typeof y === 'object' && x && y) {
      for (const key of new Set([...Object.keys(x), ...Object.keys(y)])) {
        visit(`${path}.${key}`, (x as Record<string, unknown>)[key], (y as Record<string, unknown>)[key]);
      }
    } else found.push(`${path}: ${show(x)} and ${show(y)}`);
  };
  const { ram: ramA, ...restA } = a;
  const { ram: ramB, ...restB } = b;
  visit('machine', restA, restB);
  const [pagesA, pagesB] = [pagesOf(ramA), pagesOf(ramB)];
  for (const page of new Set([...pagesA.keys(), ...pagesB.keys()])) {
    const [x, y] = [pagesA.get(page), pagesB.get(page)];
    if (x && y && Buffer.compare(x, y) === 0) continue;
    const zero = new Uint8Array(4096);
    const at = (x ?? zero).findIndex((byte, i) => byte !== (y ?? zero)[i]);
    found.push(`machine.ram: page at 0x${(0x8000_0000 + page * 4096).toString(16)}, first at byte ${at}`);
  }
  return found;
}

function pagesOf(ram: MachineState['ram']): Map<number, Uint8Array> {
  const pages = new Map<number, Uint8Array>();
  for (const piece of ram) {
    piece.pages.forEach((page, i) => {
      pages.set(page, piece.content.subarray(i * 4096, (i + 1) * 4096));
    });
  }
  return pages;
}
