// One machine in a process of its own, seen from inside while it runs Debian's rows: `node inspect.ts KERNEL INITRD APPEND DISK
// WORK COMMAND...` prints one JSON object (`Inspection`).
//
// The core reads no clock, so how long a compilation takes is measured here, by the engine's hook. Time is virtual: idle gaps
// are jumped.

import { readFileSync } from 'node:fs';
import { Engine, Machine, Pool, type PortableModule } from '../../packages/core/src/index.ts';
import { FileBackend } from '../../packages/node/src/disk/file-backend.ts';
import { PROMPT } from '../lib/guest.ts';

export interface Inspection {
  /** Pieces of work that the guest waited for. */
  readonly compilations: { readonly count: number; readonly longestMs: number; readonly totalMs: number };
  /** Guest instructions that were translated. */
  readonly instructions: number;
  /** Regions that were translated between the third of 100 starts of a program and the last. */
  readonly newRegions: number;
  /** Of these, how many were translations of code that had been translated before. */
  readonly repeatedRegions: number;
  readonly peakRssBytes: number;
  /** Frames of the guest's RAM, in bytes. */
  readonly ramBytes: number;
}

const RUN_STEPS = 20_000_000;

class Compilations {
  count = 0;
  longestMs = 0;
  totalMs = 0;
  private began = 0;

  readonly observe = (phase: 'begin' | 'end'): void => {
    if (phase === 'begin') {
      this.began = performance.now();
      return;
    }
    const spent = performance.now() - this.began;
    this.count++;
    this.totalMs += spent;
    this.longestMs = Math.max(this.longestMs, spent);
  };
}

/** Regions by the code that they begin with: a frame, what it held at that time, and a place in it. */
class Regions {
  made = 0;
  repeated = 0;
  private readonly known = new Set<string>();

  readonly observe = ({ regions }: PortableModule): void => {
    for (const { own, head } of regions) {
      const code = `${own.frame} ${own.generation} ${head}`;
      if (this.known.has(code)) this.repeated++;
      this.known.add(code);
      this.made++;
    }
  };
}

class Guest {
  readonly pool = new Pool();
  readonly compilations = new Compilations();
  readonly regions = new Regions();
  readonly engine: Engine;
  private readonly machine: Machine;
  private output = '';
  private awaited: string | RegExp = PROMPT;

  constructor(kernel: string, initrd: string, append: string, disks: readonly string[]) {
    this.engine = new Engine(this.pool, 0, {
      onCompile: this.compilations.observe,
      onModule: this.regions.observe,
    });
    this.machine = new Machine(
      this.engine,
      {
        boot: { kind: 'linux', kernel: readFileSync(kernel), initrd: readFileSync(initrd), append },
        memory: 2 ** 30,
        harts: 1,
        seed: 1n,
        epoch: 1_767_225_600_000_000_000n,
        disks: disks.map((path) => ({ backend: new FileBackend(path, false) })),
      },
      {
        console: (bytes) => {
          this.output += Buffer.from(bytes).toString('latin1');
          if (this.output.search(this.awaited) >= 0) this.machine.interrupt();
        },
      },
    );
    this.machine.input({ kind: 'skip-idle', on: true });
  }

  /** Runs until the pattern has appeared. What follows it stays for the next call. */
  async until(pattern: string | RegExp): Promise<void> {
    this.awaited = pattern;
    for (;;) {
      const found = this.output.match(pattern);
      if (found) {
        this.output = this.output.slice(found.index! + found[0].length);
        return;
      }
      const stop = this.machine.run(RUN_STEPS);
      if (stop.reason === 'stalled') await stop.until;
      if (stop.reason === 'idle' || stop.reason === 'exit')
        throw new Error(`the guest ended (${stop.reason}): ${this.output.slice(-1000)}`);
    }
  }

  /** Types a command. */
  send(text: string): void {
    this.machine.input({ kind: 'console', bytes: Buffer.from(text) });
  }
}

async function main([kernel, initrd, append, disk, work, ...commands]: string[]): Promise<Inspection> {
  const guest = new Guest(kernel!, initrd!, append!, [disk!, work!]);
  await guest.until(PROMPT);
  guest.send('mount /dev/vdb /mnt\n');
  await guest.until(PROMPT);
  for (const command of commands) {
    guest.send(`sh /mnt/run ${command}\n`);
    await guest.until(/\nsum [0-9a-f]{32}/);
    await guest.until(PROMPT);
  }
  guest.send('sh /mnt/exec\n');
  await guest.until('<warm>');
  const { made, repeated } = guest.regions;
  await guest.until('<done>');
  const { count, longestMs, totalMs } = guest.compilations;
  return {
    compilations: { count, longestMs, totalMs },
    instructions: guest.engine.translation.instructions,
    newRegions: guest.regions.made - made,
    repeatedRegions: guest.regions.repeated - repeated,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    ramBytes: guest.pool.used * 4096,
  };
}

process.stdout.write(`${JSON.stringify(await main(process.argv.slice(2)))}\n`);
