// QEMU's record and replay of the same work, `-icount rr=`: the peer of Braid's recordings.
//
// The work is a program in /bin that prints `<work>` before and `</work>` after what counts. The console is the serial port, and the
// machine has nothing else: replays (of version 7.2) do not get past the first input of a virtio console, and each request to a recorded
// disk takes 25 ms of waiting, which no row would show as what it is. A machine that records loses what is typed faster than the guest
// reads it, so it gets a few bytes at a time.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findQemu, Watched } from '../harness.ts';
import { PROMPT, type Scratch } from './guest.ts';

/** `plain`: without a log, and without the counting of instructions that one needs. */
export type RecordMode = 'plain' | 'record' | 'replay';

export interface RecordSample {
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
}

const TIMEOUT = 600;

export class QemuRecorder {
  private readonly qemu: string;
  private readonly kernel: string;
  private readonly initrd: string;
  private readonly log: string;

  private constructor(qemu: string, scratch: Scratch, kernel: Uint8Array, initrd: Uint8Array) {
    this.qemu = qemu;
    this.kernel = scratch.write('qemu-Image', kernel);
    this.initrd = scratch.write('qemu-initramfs', initrd);
    this.log = join(scratch.folder, 'qemu.log');
  }

  /** Undefined where there is no QEMU. */
  static find(scratch: Scratch, kernel: Uint8Array, initrd: Uint8Array): QemuRecorder | undefined {
    const qemu = findQemu();
    return qemu === undefined ? undefined : new QemuRecorder(qemu, scratch, kernel, initrd);
  }

  /** Has a booted guest do the work. `replay` repeats what `record` did last. */
  async run(work: string, mode: RecordMode): Promise<RecordSample> {
    // Its output goes to a pipe. Node gives it a socket, and writes to that are not replayed as they were recorded.
    await using child = new Watched('sh', ['-c', '"$@" | cat', 'sh', this.qemu, ...this.arguments(mode)]);
    await child.until(PROMPT);
    const type = async (text: string) => {
      for (let at = 0; at < text.length && mode !== 'replay'; at += 4) {
        child.send(text.slice(at, at + 4));
        await sleep(50);
      }
    };
    await type(`${work}\n`);
    const start = await child.until('<work>', TIMEOUT);
    const before = child.usage().cpuSeconds;
    const end = await child.until('</work>', TIMEOUT);
    const { cpuSeconds } = child.usage();
    if (mode === 'record') {
      await child.until(PROMPT);
      await type('poweroff -f\n');
      await child.exit(TIMEOUT);
    }
    return { cpuSeconds: cpuSeconds - before, wallSeconds: end - start };
  }

  private arguments(mode: RecordMode): string[] {
    const count = mode === 'plain' ? [] : ['-icount', `shift=auto,rr=${mode},rrfile=${this.log}`];
    return [
      ...[
        '-M',
        'virt',
        '-display',
        'none',
        '-monitor',
        'none',
        '-no-reboot',
        '-smp',
        '1',
        '-m',
        '256M',
        '-net',
        'none',
      ],
      ...['-kernel', this.kernel, '-initrd', this.initrd, '-append', 'console=ttyS0 quiet panic=-1'],
      ...['-chardev', 'stdio,id=console', '-serial', 'chardev:console'],
      ...count,
    ];
  }
}
