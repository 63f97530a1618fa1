/**
 * The serial port: an NS16550A with registers one byte apart (as in the device tree of QEMU's `virt`: reg-shift 0).
 *
 *   offset   read                        write
 *   0        receiver buffer             transmitter holding      (divisor latch low when LCR.DLAB)
 *   1        interrupt enable            interrupt enable         (divisor latch high when LCR.DLAB)
 *   2        interrupt identification    FIFO control
 *   3        line control                line control
 *   4        modem control               modem control
 *   5        line status                 -
 *   6        modem status                -
 *   7        scratch                     scratch
 *
 * It interrupts where QEMU's does; docs/devices.md compares both with the chip's data sheet.
 *
 * Differences from the chip, none of which a driver can rely on: a byte is on the line the moment it is written, so the
 * transmitter is always empty; the character timeout does not wait, so received bytes below the trigger level are announced at
 * once; a sender never overruns the receiver, because what does not fit waits in the inbox (the far end obeys flow control).
 *
 * Output is gathered and handed over in pieces: `flushOutput` is for the end of a slice.
 */

import { Fields } from '../../state/check.ts';
import { ByteQueue } from '../byte-queue.ts';
import type { AccessSize, Device, DeviceContext } from '../device.ts';
import {
  checkUart,
  FIFO_CONTROL_BITS,
  FIFO_ENABLED,
  FIFO_SIZE,
  INBOX_SIZE,
  INTERRUPT_ENABLE_BITS,
  initialUart,
  MODEM_CONTROL_BITS,
  type UartState,
} from './state.ts';

/** Pending output is handed over without waiting for a flush when it reaches this many bytes. */
const OUTPUT_SIZE = 4096;
/** Input that waits for a guest which reads: little, as what follows may set the port up anew (a kernel after its loader). */
const AHEAD = 256;
/** So many looks at the line status in a row, and nothing else, are a driver's that polls for input; one that sends looks once a byte. */
const POLLS = 8;

const DATA = 0;
const INTERRUPT_ENABLE = 1;
const INTERRUPT_IDENTIFICATION = 2;
const LINE_CONTROL = 3;
const MODEM_CONTROL = 4;
const LINE_STATUS = 5;
const MODEM_STATUS = 6;
const SCRATCH = 7;

const DIVISOR_LATCH = 0x80;

/** Interrupt enable register, lowest first. */
const ON_RECEIVED = 0x01;
const ON_TRANSMITTER_EMPTY = 0x02;
const ON_LINE_STATUS = 0x04;
const ON_MODEM_STATUS = 0x08;

/** Interrupt identification register. */
const NO_INTERRUPT = 0x01;
const LINE_STATUS_INTERRUPT = 0x06;
const RECEIVED_INTERRUPT = 0x04;
const TIMEOUT_INTERRUPT = 0x0c;
const TRANSMITTER_EMPTY_INTERRUPT = 0x02;
const MODEM_STATUS_INTERRUPT = 0x00;
const FIFOS_WORK = 0xc0;

/** FIFO control register. */
const CLEAR_RECEIVER = 0x02;
const CLEAR_TRANSMITTER = 0x04;
const TRIGGER_LEVELS = [1, 4, 8, 14];

/** Line status register. */
const DATA_READY = 0x01;
const OVERRUN = 0x02;
const TRANSMITTER_EMPTY = 0x60;

/** Modem control register. */
const LOOPBACK = 0x10;

/** Modem inputs in the upper half of the modem status register. */
const CLEAR_TO_SEND = 0x10;
const DATA_SET_READY = 0x20;
const RING = 0x40;
const CARRIER = 0x80;

/** What a guest has shown of how it reads typed input: plain data, which goes with a machine wherever that goes on. */
export interface UartReader {
  /** Looks at the line status since anything else was done. */
  readonly polls: number;
  /** It has read a receiver full of input since it last set the receiver up. */
  readonly reads: boolean;
}

const NO_READER: UartReader = { polls: 0, reads: false };

/** A reader from a record, which may come from anywhere. Throws `StateError`. */
export function checkReader(record: unknown, where: string): UartReader {
  const fields = new Fields(record, where);
  const reader = { polls: fields.integer('polls', 0, POLLS), reads: fields.flag('reads') };
  fields.end();
  return reader;
}

export class Uart implements Device<UartState> {
  readonly #context: DeviceContext;
  readonly #output: (bytes: Uint8Array) => void;
  /** Registers; the two queues live outside and join in `save`. */
  #state = initialUart();
  readonly #received = new ByteQueue(FIFO_SIZE);
  readonly #inbox = new ByteQueue(INBOX_SIZE);
  #polls = 0;
  #reads = false;
  #pending = new Uint8Array(OUTPUT_SIZE);
  #pendingLength = 0;

  /** `output` gets what the guest sent, in order; the array is its own to keep. */
  constructor(context: DeviceContext, output: (bytes: Uint8Array) => void) {
    this.#context = context;
    this.#output = output;
  }

  /**
   * How many bytes typed now would be read: while drivers probe and set the port up, they empty the receiver and read what they throw
   * away. Input is taken once received bytes interrupt or the driver polls for them: a receiver full at first, and more when that has
   * been read. It says when the host offers input, which is an event of its own.
   */
  get ready(): number {
    const listens = (this.#state.interruptEnable & ON_RECEIVED) !== 0 || this.#polls >= POLLS;
    if (!listens || this.#loopback) return 0;
    const most = this.#reads ? AHEAD : 0;
    return Math.max(0, this.#receiverRoom + most - this.#inbox.length);
  }

  /** How the guest reads, for `ready`: no part of the state, and of no hash. */
  get reader(): UartReader {
    return { polls: this.#polls, reads: this.#reads };
  }

  set reader({ polls, reads }: UartReader) {
    this.#polls = polls;
    this.#reads = reads;
  }

  read(offset: number, _size: AccessSize): number {
    const state = this.#state;
    if (offset === LINE_STATUS) this.#polls = Math.min(this.#polls + 1, POLLS);
    else if (offset !== DATA) this.#polls = 0;
    switch (offset) {
      case DATA:
        if (this.#latchOpen) return state.divisor & 0xff;
        return this.#takeReceived();
      case INTERRUPT_ENABLE:
        return this.#latchOpen ? state.divisor >> 8 : state.interruptEnable;
      case INTERRUPT_IDENTIFICATION: {
        const cause = this.#identify();
        // To be told that the transmitter is empty clears that cause; the other causes are cleared where they arose.
        if (cause === TRANSMITTER_EMPTY_INTERRUPT) {
          state.transmitterEmptied = false;
          this.#updateInterrupt();
        }
        return cause | (this.#fifosEnabled ? FIFOS_WORK : 0);
      }
      case LINE_CONTROL:
        return state.lineControl;
      case MODEM_CONTROL:
        return state.modemControl;
      case LINE_STATUS: {
        const status = TRANSMITTER_EMPTY | state.lineErrors | (this.#received.length > 0 ? DATA_READY : 0);
        if (state.lineErrors !== 0) {
          state.lineErrors = 0;
          this.#updateInterrupt();
        }
        return status;
      }
      case MODEM_STATUS: {
        const status = modemInputs(state.modemControl) | state.modemDelta;
        state.modemDelta = 0;
        this.#updateModemInterrupt();
        return status;
      }
      case SCRATCH:
        return state.scratch;
      default:
        return 0;
    }
  }

  write(offset: number, _size: AccessSize, value: number): void {
    const state = this.#state;
    const byte = value & 0xff;
    this.#polls = 0;
    switch (offset) {
      case DATA:
        if (this.#latchOpen) state.divisor = (state.divisor & 0xff00) | byte;
        else this.#transmit(byte);
        break;
      case INTERRUPT_ENABLE:
        if (this.#latchOpen) state.divisor = (state.divisor & 0x00ff) | (byte << 8);
        else this.#enableInterrupts(byte & INTERRUPT_ENABLE_BITS);
        break;
      case INTERRUPT_IDENTIFICATION:
        this.#controlFifos(byte);
        break;
      case LINE_CONTROL:
        state.lineControl = byte;
        break;
      case MODEM_CONTROL:
        this.#controlModem(byte & MODEM_CONTROL_BITS);
        break;
      case SCRATCH:
        state.scratch = byte;
        break;
    }
  }

  /** Puts bytes on the line to the guest; returns how many of them fit into the inbox. */
  receive(bytes: Uint8Array): number {
    const accepted = this.#inbox.push(bytes);
    this.#refill();
    // The receiver took some: there is room for more of what did not fit.
    const rest = this.#inbox.push(bytes.subarray(accepted));
    this.#updateInterrupt();
    return accepted + rest;
  }

  /** Takes what has been typed away from the receiver: for a firmware console, which reads the same line. */
  take(max: number): Uint8Array {
    const bytes = new Uint8Array(max);
    let length = 0;
    this.#polls = POLLS;
    while (length < max && this.#received.length > 0) {
      bytes[length++] = this.#received.shift() as number;
      this.#refill();
      this.#reads ||= this.#received.length === 0;
    }
    this.#updateInterrupt();
    return bytes.slice(0, length);
  }

  /** Output of a firmware console, which shares the line: after what the guest has sent before. */
  print(bytes: Uint8Array): void {
    for (const byte of bytes) this.#send(byte);
  }

  /** Hands the pending output over, if there is any. */
  flushOutput(): void {
    if (this.#pendingLength === 0) return;
    const bytes = this.#pending.slice(0, this.#pendingLength);
    this.#pendingLength = 0;
    this.#output(bytes);
  }

  deadline(): bigint | undefined {
    return undefined;
  }

  advance(_now: bigint): Promise<void> | undefined {
    return undefined;
  }

  reset(): void {
    this.#adopt(initialUart());
  }

  save(): UartState {
    return { ...this.#state, received: this.#received.peek(), inbox: this.#inbox.peek() };
  }

  restore(state: unknown): void {
    this.#adopt(checkUart(state));
  }

  #adopt(state: UartState): void {
    this.reader = NO_READER;
    this.#received.load(state.received);
    this.#inbox.load(state.inbox);
    this.#state = { ...state, received: new Uint8Array(0), inbox: new Uint8Array(0) };
    this.#updateInterrupt();
  }

  get #latchOpen(): boolean {
    return (this.#state.lineControl & DIVISOR_LATCH) !== 0;
  }

  get #fifosEnabled(): boolean {
    return (this.#state.fifoControl & FIFO_ENABLED) !== 0;
  }

  get #loopback(): boolean {
    return (this.#state.modemControl & LOOPBACK) !== 0;
  }

  get #receiverRoom(): number {
    return (this.#fifosEnabled ? FIFO_SIZE : 1) - this.#received.length;
  }

  #takeReceived(): number {
    const byte = this.#received.shift();
    this.#refill();
    if (byte !== undefined && !this.#loopback) this.#reads ||= this.#received.length === 0;
    this.#updateInterrupt();
    return byte ?? 0;
  }

  /** Lets bytes from the line into the receiver; whether any came. In loopback the receiver is cut off from the line. */
  #refill(): boolean {
    if (this.#loopback) return false;
    const waiting = this.#inbox.length;
    while (this.#receiverRoom > 0 && this.#inbox.length > 0) this.#received.pushByte(this.#inbox.shift() as number);
    return this.#inbox.length < waiting;
  }

  #transmit(byte: number): void {
    // The byte fills the transmitter and leaves it at once: the line falls, and rises again.
    this.#state.transmitterEmptied = false;
    this.#updateInterrupt();
    if (this.#loopback) this.#loopBack(byte);
    else this.#send(byte);
    this.#state.transmitterEmptied = true;
    this.#updateInterrupt();
  }

  #loopBack(byte: number): void {
    if (this.#receiverRoom === 0) {
      this.#state.lineErrors |= OVERRUN;
      // A full FIFO keeps what it has; the single register takes the byte that comes last.
      if (this.#fifosEnabled) return;
      this.#received.clear();
    }
    this.#received.pushByte(byte);
  }

  #send(byte: number): void {
    this.#pending[this.#pendingLength] = byte;
    this.#pendingLength += 1;
    if (this.#pendingLength === OUTPUT_SIZE) this.flushOutput();
  }

  #enableInterrupts(enable: number): void {
    // Asking to hear of an empty transmitter while it is empty is answered at once; drivers start sending that way.
    if (((enable ^ this.#state.interruptEnable) & ON_TRANSMITTER_EMPTY) !== 0) {
      this.#state.transmitterEmptied = (enable & ON_TRANSMITTER_EMPTY) !== 0;
    }
    if (enable === this.#state.interruptEnable) return;
    this.#state.interruptEnable = enable;
    this.#updateInterrupt();
  }

  #controlFifos(control: number): void {
    const enable = (control & FIFO_ENABLED) !== 0;
    // Turning the FIFOs on or off empties them, and the other bits count only together with the enable bit.
    const switched = enable !== this.#fifosEnabled;
    if (switched || (enable && (control & CLEAR_RECEIVER) !== 0)) {
      this.#received.clear();
      this.#reads = false;
    }
    if (switched || (enable && (control & CLEAR_TRANSMITTER) !== 0)) this.#state.transmitterEmptied = true;
    this.#state.fifoControl = enable ? control & FIFO_CONTROL_BITS : 0;
    this.#refill();
    this.#updateInterrupt();
  }

  #controlModem(control: number): void {
    const before = modemInputs(this.#state.modemControl);
    const after = modemInputs(control);
    const changed = before ^ after;
    // Three inputs report any change, the ring indicator only its end.
    const ringEnded = (changed & before & RING) !== 0;
    this.#state.modemDelta |= ((changed & ~RING) | (ringEnded ? RING : 0)) >> 4;
    this.#state.modemControl = control;
    // The end of loopback lets in what waited on the line.
    if (this.#refill()) this.#updateInterrupt();
    else this.#updateModemInterrupt();
  }

  /** The most urgent cause of an interrupt, in the order of the chip's data sheet. */
  #identify(): number {
    const { interruptEnable, lineErrors, transmitterEmptied, modemDelta, fifoControl } = this.#state;
    if ((interruptEnable & ON_LINE_STATUS) !== 0 && lineErrors !== 0) return LINE_STATUS_INTERRUPT;
    if ((interruptEnable & ON_RECEIVED) !== 0 && this.#received.length > 0) {
      const trigger = this.#fifosEnabled ? (TRIGGER_LEVELS[fifoControl >> 6] as number) : 1;
      return this.#received.length >= trigger ? RECEIVED_INTERRUPT : TIMEOUT_INTERRUPT;
    }
    if ((interruptEnable & ON_TRANSMITTER_EMPTY) !== 0 && transmitterEmptied) return TRANSMITTER_EMPTY_INTERRUPT;
    if ((interruptEnable & ON_MODEM_STATUS) !== 0 && modemDelta !== 0) return MODEM_STATUS_INTERRUPT;
    return NO_INTERRUPT;
  }

  /** Changes of the modem's inputs are a cause only for those who asked for them. */
  #updateModemInterrupt(): void {
    if ((this.#state.interruptEnable & ON_MODEM_STATUS) !== 0) this.#updateInterrupt();
  }

  #updateInterrupt(): void {
    this.#context.interrupt(this.#identify() !== NO_INTERRUPT);
  }
}

/**
 * The modem inputs. The far end of the line is always there and ready; in loopback the outputs come back instead: RTS as CTS, DTR
 * as DSR, OUT1 as RI, OUT2 as DCD.
 */
function modemInputs(modemControl: number): number {
  if ((modemControl & LOOPBACK) === 0) return CARRIER | DATA_SET_READY | CLEAR_TO_SEND;
  return (
    ((modemControl & 0x02) !== 0 ? CLEAR_TO_SEND : 0) |
    ((modemControl & 0x01) !== 0 ? DATA_SET_READY : 0) |
    ((modemControl & 0x04) !== 0 ? RING : 0) |
    ((modemControl & 0x08) !== 0 ? CARRIER : 0)
  );
}
