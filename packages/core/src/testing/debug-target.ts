/** A core machine as what the server of gdb's protocol debugs, and a debugger's end of the connection, for tests. */

import { GdbError } from '../gdb/errors.ts';
import { readMemory, readRegisters, writeMemory, writeRegister } from '../gdb/inspect.ts';
import { MachineDebug } from '../gdb/machine-debug.ts';
import { bytesText, frame, hexOf, PacketReader, textBytes } from '../gdb/packet.ts';
import { GdbServer } from '../gdb/server.ts';
import type { DebugStop, DebugTarget, DebugTask } from '../gdb/target.ts';
import type { Machine } from '../machine/machine.ts';

/** `tasks`: what the guest's kernel is said to have. */
export function coreTarget(machine: Machine, tasks?: readonly DebugTask[], writable = true): DebugTarget {
  const debug = new MachineDebug(machine);
  const target: DebugTarget = {
    harts: machine.harts,
    reversible: false,
    writable,
    attach: async () => debug.here,
    detach: async () => debug.end(),
    registers: async (hart) => readRegisters(machine, hart),
    setRegister: async (hart, name, value) => writeRegister(machine, hart, name, value),
    read: async (address, length, options) => readMemory(machine, address, length, options),
    write: async (address, bytes, options) => writeMemory(machine, address, bytes, options),
    resume: async (how, signal) => {
      debug.begin(how);
      for (;;) {
        const hit: DebugStop | undefined = debug.ran(machine.run(debug.limit(10_000)));
        if (hit) return hit;
        await new Promise((resolve) => setImmediate(resolve));
        if (signal.aborted) return debug.interrupted();
      }
    },
    monitor: async (words) => {
      if (words[0] === 'when') return `at ${machine.totalSteps}`;
      throw new GdbError(`there is no command ${words[0]}`);
    },
    commands: [['when', 'how many steps there were']],
  };
  return tasks ? { ...target, tasks: async () => tasks } : target;
}

/** The debugger's end: sends packets and collects what comes back. */
export class Script {
  readonly server: GdbServer;
  /** Text for the person at the debugger. */
  said = '';
  closed = false;
  private readonly reader = new PacketReader();
  private readonly replies: string[] = [];
  private readonly raw: Uint8Array[] = [];
  private heard: (() => void) | undefined;

  constructor(target: DebugTarget, options: { tasks?: boolean } = {}) {
    this.server = new GdbServer(
      target,
      {
        send: (bytes) => this.take(bytes),
        close: () => {
          this.closed = true;
          this.heard?.();
        },
      },
      options,
    );
  }

  private take(bytes: Uint8Array): void {
    for (const item of this.reader.push(bytes)) {
      if (item.kind !== 'packet') continue;
      const text = bytesText(item.payload);
      if (/^O([0-9a-f]{2})+$/.test(text)) this.said += Buffer.from(text.slice(1), 'hex').toString();
      else {
        this.raw.push(item.payload);
        this.replies.push(text);
      }
    }
    this.heard?.();
  }

  /** Sends bytes as they are. */
  bytes(text: string): void {
    this.server.receive(textBytes(text));
  }

  post(packet: string | Uint8Array): void {
    this.server.receive(frame(typeof packet === 'string' ? textBytes(packet) : packet));
  }

  /** The next reply; undefined at the end of the connection. */
  async reply(): Promise<string | undefined> {
    while (this.replies.length === 0 && !this.closed) {
      await new Promise<void>((resolve) => {
        this.heard = resolve;
      });
    }
    return this.replies.shift();
  }

  async ask(packet: string | Uint8Array): Promise<string | undefined> {
    this.post(packet);
    return this.reply();
  }

  /** The last reply's payload. */
  get last(): Uint8Array {
    return this.raw.at(-1)!;
  }

  /** A command of a person: what it says, with the final reply. */
  async monitor(command: string): Promise<string> {
    this.said = '';
    const reply = await this.ask(`qRcmd,${hexOf(textBytes(command))}`);
    return `${this.said}${reply}`;
  }
}
