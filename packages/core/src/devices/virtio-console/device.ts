/**
 * The console device with two ports (OASIS virtio 1.2, section 5.3): port 0 is a console (/dev/hvc0), port 1 is the channel of the
 * guest agent (/dev/virtio-ports/org.qemu.guest_agent.0).
 *
 *   queue   from the device's side
 *   0, 1    port 0: to the guest, from the guest
 *   2, 3    control: to the guest, from the guest
 *   4, 5    port 1: to the guest, from the guest
 *
 * Bytes for the guest wait in a bounded inbox until it has the port open and gives buffers. What the guest sends is handed over at
 * once. Callbacks are called in the middle of a guest's store: they must not call back into the device.
 */

import { ByteQueue } from '../byte-queue.ts';
import type { DeviceContext } from '../device.ts';
import { VirtioDevice } from '../virtio/device.ts';
import { DriverError, gather, scatter, slice } from '../virtio/queue.ts';
import {
  CONSOLE_PORT,
  CONTROLS_MAX,
  type ConsolePortState,
  type Control,
  checkVirtioConsole,
  DEVICE_READY,
  INBOX_SIZE,
  PORT_ADD,
  PORT_NAME,
  PORT_OPEN,
  PORT_READY,
  PORTS,
  RESIZE,
  type VirtioConsoleState,
} from './state.ts';

/** The ports, by what they are for. */
export const CONSOLE = 0;
export const AGENT = 1;

/** Feature bits (section 5.3.3). */
const SIZE = 1n << 0n;
const MULTIPORT = 1n << 1n;

const CONTROL_TO_GUEST = 2;
const CONTROL_FROM_GUEST = 3;
const CONTROL_SIZE = 8;

/** The most bytes of one chain from the guest. Drivers send some pages at a time. */
const CHAIN_MAX = 1024 * 1024;

const AGENT_NAME = 'org.qemu.guest_agent.0';

/** Where a console device's output goes. */
export interface ConsoleHost {
  /** The guest sent bytes through a port; the array is the host's to keep. */
  output(port: number, bytes: Uint8Array): void;
  /** The guest opened or closed a port. Not called by `restore`: ask `guestOpen` then. */
  opened?(port: number, open: boolean): void;
}

interface Port {
  ready: boolean;
  guestOpen: boolean;
  hostOpen: boolean;
  readonly inbox: ByteQueue;
}

export class VirtioConsole extends VirtioDevice<VirtioConsoleState> {
  readonly #host: ConsoleHost;
  readonly #ports: Port[] = Array.from({ length: PORTS }, () => ({
    ready: false,
    guestOpen: false,
    hostOpen: true,
    inbox: new ByteQueue(INBOX_SIZE),
  }));
  #controls: Control[] = [];
  #columns = 80;
  #rows = 24;

  constructor(context: DeviceContext, host: ConsoleHost) {
    super(context, {
      name: 'console',
      deviceId: 3,
      features: SIZE | MULTIPORT,
      queueSizes: [128, 128, 32, 32, 128, 128],
    });
    this.#host = host;
  }

  /**
   * Sends bytes to the guest; returns how many were accepted. The console takes them at any time, the agent's port only while the
   * guest has it open (like a socket: nobody would read what was meant for an agent that is gone).
   */
  send(port: number, bytes: Uint8Array): number {
    const { inbox, guestOpen } = this.#port(port);
    if (port !== CONSOLE && !guestOpen) return 0;
    let accepted = inbox.push(bytes);
    this.#deliver(port);
    // The guest took some: there is room for more of what did not fit.
    while (accepted < bytes.length && inbox.room > 0) {
      accepted += inbox.push(bytes.subarray(accepted));
      this.#deliver(port);
    }
    return accepted;
  }

  /** Whether somebody in the guest has a port open. */
  guestOpen(port: number): boolean {
    return this.#port(port).guestOpen;
  }

  /** Opens or closes a port on the host's side; both are open at first. Output of a closed port is lost. */
  setOpen(port: number, open: boolean): void {
    const state = this.#port(port);
    if (state.hostOpen === open) return;
    state.hostOpen = open;
    if (state.ready) this.#control({ port, event: PORT_OPEN, value: open ? 1 : 0 });
  }

  /** Tells the guest the size of the terminal behind the console, in characters; 80 by 24 at first. */
  resize(columns: number, rows: number): void {
    const fits = (size: number) => Number.isInteger(size) && size >= 0 && size <= 0xffff;
    if (!fits(columns) || !fits(rows)) throw new RangeError(`a terminal of ${columns} by ${rows} characters`);
    if (columns === this.#columns && rows === this.#rows) return;
    this.#columns = columns;
    this.#rows = rows;
    this.configChanged();
    const waits = this.#controls.some(({ event }) => event === RESIZE);
    if (this.#port(CONSOLE).ready && !waits) this.#control({ port: CONSOLE, event: RESIZE, value: 0 });
  }

  override reset(): void {
    super.reset();
    for (const { inbox } of this.#ports) inbox.clear();
  }

  override save(): VirtioConsoleState {
    return {
      version: 1,
      transport: this.saveTransport(),
      columns: this.#columns,
      rows: this.#rows,
      controls: this.#controls.map((control) => ({ ...control })),
      ports: this.#ports.map((port) => ({ ...port, inbox: port.inbox.peek() })),
    };
  }

  override restore(record: unknown): void {
    const state = checkVirtioConsole(record, (transport) => this.checkTransport(transport));
    this.#columns = state.columns;
    this.#rows = state.rows;
    this.#controls = state.controls;
    for (const [index, port] of this.#ports.entries()) {
      const { inbox, ...flags } = state.ports[index] as ConsolePortState;
      Object.assign(port, flags);
      port.inbox.load(inbox);
    }
    this.restoreTransport(state.transport);
  }

  protected override config(): Uint8Array {
    const config = new DataView(new ArrayBuffer(12));
    config.setUint16(0, this.#columns, true);
    config.setUint16(2, this.#rows, true);
    config.setUint32(4, PORTS, true);
    return new Uint8Array(config.buffer);
  }

  /** What waits for the console stays for the driver that comes next; ports of a driver that is gone are closed. */
  protected override driverReset(): void {
    this.#controls = [];
    for (const [index, port] of this.#ports.entries()) {
      port.ready = false;
      this.#setGuestOpen(index, false);
    }
  }

  protected override serve(queue: number): void {
    if (queue === CONTROL_TO_GUEST) {
      this.#sendControls();
    } else if (queue === CONTROL_FROM_GUEST) {
      this.#receiveControls();
    } else {
      const port = queue < CONTROL_TO_GUEST ? CONSOLE : AGENT;
      if (queue === toGuest(port)) this.#fill(port);
      else this.#drain(port);
    }
  }

  #port(index: number): Port {
    const port = this.#ports[index];
    if (port === undefined) throw new RangeError(`the console device has no port ${index}`);
    return port;
  }

  #deliver(port: number): void {
    this.serving(() => this.#fill(port));
  }

  /** Puts waiting bytes into buffers of the guest. */
  #fill(port: number): void {
    const { inbox, guestOpen } = this.#port(port);
    // Without MULTIPORT there is one port, and no message that opens it.
    const open = this.accepted(MULTIPORT) ? guestOpen : port === CONSOLE;
    if (!open) return;
    while (inbox.length > 0) {
      const chain = this.take(toGuest(port));
      if (chain === undefined) return;
      if (chain.writableLength === 0) throw new DriverError('a receive buffer that cannot be written');
      const written = scatter(this.context.memory, chain.writable, inbox.peek(chain.writableLength));
      inbox.drop(written);
      this.charge(written);
      this.give(toGuest(port), chain.head, written);
    }
  }

  /** Hands the guest's bytes over. */
  #drain(port: number): void {
    const queue = toGuest(port) + 1;
    for (let chain = this.take(queue); chain !== undefined; chain = this.take(queue)) {
      if (chain.readableLength > CHAIN_MAX) throw new DriverError(`${chain.readableLength} bytes at once`);
      const bytes = gather(this.context.memory, chain.readable);
      this.charge(bytes.length);
      this.give(queue, chain.head, 0);
      if (bytes.length > 0 && this.#port(port).hostOpen) this.#host.output(port, bytes);
    }
  }

  #receiveControls(): void {
    for (;;) {
      const chain = this.take(CONTROL_FROM_GUEST);
      if (chain === undefined) break;
      const bytes = gather(this.context.memory, slice(chain.readable, 0, CONTROL_SIZE));
      this.give(CONTROL_FROM_GUEST, chain.head, 0);
      if (bytes.length < CONTROL_SIZE) continue;
      const message = new DataView(bytes.buffer);
      this.#obey(message.getUint32(0, true), message.getUint16(4, true), message.getUint16(6, true) !== 0);
    }
    this.#sendControls();
  }

  /** Acts on a control message of the driver (section 5.3.6.2); those that make no sense are ignored. */
  #obey(index: number, event: number, yes: boolean): void {
    if (event === DEVICE_READY) {
      if (!yes) return;
      for (const port of this.#ports.keys()) this.#queueControl({ port, event: PORT_ADD, value: 1 });
      return;
    }
    const port = this.#ports[index];
    if (port === undefined) return;
    if (event === PORT_READY && yes) {
      port.ready = true;
      if (index === CONSOLE) {
        this.#queueControl({ port: index, event: CONSOLE_PORT, value: 1 });
        this.#queueControl({ port: index, event: RESIZE, value: 0 });
      } else {
        this.#queueControl({ port: index, event: PORT_NAME, value: 1 });
      }
      if (port.hostOpen) this.#queueControl({ port: index, event: PORT_OPEN, value: 1 });
    } else if (event === PORT_OPEN) {
      this.#setGuestOpen(index, yes);
      this.#fill(index);
    }
  }

  #setGuestOpen(index: number, open: boolean): void {
    const port = this.#port(index);
    if (port.guestOpen === open) return;
    port.guestOpen = open;
    if (!open && index !== CONSOLE) port.inbox.clear();
    this.#host.opened?.(index, open);
  }

  #control(control: Control): void {
    this.#queueControl(control);
    this.serving(() => this.#sendControls());
  }

  #queueControl(control: Control): void {
    if (this.#controls.length < CONTROLS_MAX) this.#controls.push(control);
  }

  #sendControls(): void {
    if (!this.accepted(MULTIPORT)) return;
    for (let control = this.#controls[0]; control !== undefined; control = this.#controls[0]) {
      const chain = this.take(CONTROL_TO_GUEST);
      if (chain === undefined) return;
      const message = this.#encode(control);
      if (chain.writableLength < message.length) throw new DriverError('a control buffer that is too small');
      scatter(this.context.memory, chain.writable, message);
      this.#controls.shift();
      this.give(CONTROL_TO_GUEST, chain.head, message.length);
    }
  }

  #encode({ port, event, value }: Control): Uint8Array {
    const name = event === PORT_NAME ? new TextEncoder().encode(AGENT_NAME) : new Uint8Array(0);
    const message = new DataView(new ArrayBuffer(CONTROL_SIZE + (event === RESIZE ? 4 : name.length)));
    message.setUint32(0, port, true);
    message.setUint16(4, event, true);
    message.setUint16(6, value, true);
    if (event === RESIZE) {
      message.setUint16(8, this.#columns, true);
      message.setUint16(10, this.#rows, true);
    }
    const bytes = new Uint8Array(message.buffer);
    if (event === PORT_NAME) bytes.set(name, CONTROL_SIZE);
    return bytes;
  }
}

/** The queue that carries bytes of a port to the guest; the next one carries them back. */
function toGuest(port: number): number {
  return port === CONSOLE ? 0 : 2 + 2 * port;
}
