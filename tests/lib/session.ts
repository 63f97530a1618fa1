/** A machine with somebody at its console: what it printed, what is typed, and waiting for text, all in guest time. */

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { Engine, type Exit, Machine, type MachineOptions, Pool, type Stop } from '../../packages/core/src/index.ts';
import { ENGINE_OPTIONS } from '../../packages/core/src/testing/machines.ts';

let engine: Engine | undefined;

/** The engine of this process. */
export function sharedEngine(): Engine {
  engine ??= new Engine(new Pool(), 0, ENGINE_OPTIONS);
  return engine;
}

const prebuilt = new URL('../../guest/prebuilt/', import.meta.url);

/** Why there is no default guest, or false. */
export const guestMissing: string | false =
  !existsSync(fileURLToPath(new URL('Image.gz', prebuilt))) && 'guest/prebuilt has no kernel: run guest/build.sh';

export const defaultKernel = (): Uint8Array => gunzipSync(readFileSync(new URL('Image.gz', prebuilt)));
export const defaultInitrd = (): Uint8Array => readFileSync(new URL('initramfs.cpio.gz', prebuilt));

export class Session {
  machine: Machine;
  output = '';
  private seen = 0;

  /** Makes a machine, or takes the one that `make` gives for these outputs. */
  constructor(options: MachineOptions | ((console: (bytes: Uint8Array) => void) => Machine)) {
    const console = (bytes: Uint8Array) => {
      this.output += Buffer.from(bytes).toString('latin1');
    };
    this.machine = typeof options === 'function' ? options(console) : new Machine(sharedEngine(), options, { console });
    this.machine.input({ kind: 'skip-idle', on: true });
  }

  /** Runs until text appears that was not waited for before. Throws after so many steps, with what there is. */
  async until(text: RegExp, maxSteps = 500e6): Promise<RegExpExecArray> {
    const end = this.machine.totalSteps + BigInt(maxSteps);
    for (;;) {
      const found = text.exec(this.output.slice(this.seen));
      if (found) {
        this.seen += found.index + found[0].length;
        return found;
      }
      const stop = await this.run(500_000);
      if (stop.reason !== 'steps' || this.machine.totalSteps >= end) {
        // What came with the last words counts.
        if (text.test(this.output.slice(this.seen))) continue;
        const why = stop.reason === 'steps' ? `${maxSteps} steps` : JSON.stringify(stop, (_, v) => `${v}`);
        throw new Error(`no ${text} after ${why}; the console's end:\n${this.output.slice(-2000)}`);
      }
    }
  }

  type(text: string): void {
    this.machine.input({ kind: 'console', bytes: new TextEncoder().encode(text) });
  }

  /** Runs until the machine ends. */
  async exit(maxSteps = 500e6): Promise<Exit> {
    const end = this.machine.totalSteps + BigInt(maxSteps);
    for (;;) {
      const stop = await this.run(5e6);
      if (stop.reason === 'exit') return stop.exit;
      if (stop.reason !== 'steps' || this.machine.totalSteps >= end) {
        throw new Error(`the machine does not end (${stop.reason}); the console's end:\n${this.output.slice(-2000)}`);
      }
    }
  }

  private async run(steps: number): Promise<Stop> {
    for (;;) {
      const stop = this.machine.run(steps);
      if (stop.reason !== 'stalled') return stop;
      await stop.until;
    }
  }

  [Symbol.dispose](): void {
    this.machine.free();
  }
}

/** The shell's prompt; its line editor asks for the cursor's place behind it. */
export const PROMPT = /~ ?# (\x1b\[6n)?$/;
