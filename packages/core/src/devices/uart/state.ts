/** What a serial port remembers. Bytes that it has sent are gone: they are the host's, not state. */

import { Fields } from '../../state/check.ts';
import { StateError } from '../../state/errors.ts';

/** Bytes of the receiver FIFO when it is enabled; without it the receiver holds one byte. */
export const FIFO_SIZE = 16;

/** Bytes that wait on the line until the guest makes room in the receiver. */
export const INBOX_SIZE = 64 * 1024;

/** Bits of the registers that exist; the others read zero. */
export const INTERRUPT_ENABLE_BITS = 0x0f;
export const FIFO_CONTROL_BITS = 0xc9;
export const MODEM_CONTROL_BITS = 0x1f;
export const MODEM_DELTA_BITS = 0x0f;
export const LINE_ERROR_BITS = 0x1e;
export const FIFO_ENABLED = 0x01;

export interface UartState {
  readonly version: 1;
  /** The baud rate divisor, both latches. */
  divisor: number;
  interruptEnable: number;
  /** The bits of the FIFO control register that stay: enable, DMA mode, trigger level. */
  fifoControl: number;
  lineControl: number;
  modemControl: number;
  /** Which modem inputs changed since the modem status register was read. */
  modemDelta: number;
  /** Errors since the line status register was read, at their places in that register. */
  lineErrors: number;
  scratch: number;
  /** The transmitter became empty and nobody has been told yet. */
  transmitterEmptied: boolean;
  /** The receiver FIFO, oldest first. */
  received: Uint8Array;
  inbox: Uint8Array;
}

export function initialUart(): UartState {
  return {
    version: 1,
    // As on QEMU; the data sheet gives it no value.
    divisor: 12,
    interruptEnable: 0,
    fifoControl: 0,
    lineControl: 0,
    modemControl: 0,
    modemDelta: 0,
    lineErrors: 0,
    scratch: 0,
    transmitterEmptied: false,
    received: new Uint8Array(0),
    inbox: new Uint8Array(0),
  };
}

export function checkUart(record: unknown, where = 'uart'): UartState {
  const fields = new Fields(record, where);
  fields.version(1);
  const bits = (name: string, existing: number) => {
    const value = fields.integer(name, 0, 0xff);
    if ((value & ~existing) !== 0) throw new StateError(`${where}.${name}`, 'has bits that do not exist');
    return value;
  };
  const fifoControl = bits('fifoControl', FIFO_CONTROL_BITS);
  const state: UartState = {
    version: 1,
    divisor: fields.integer('divisor', 0, 0xffff),
    interruptEnable: bits('interruptEnable', INTERRUPT_ENABLE_BITS),
    fifoControl,
    lineControl: fields.integer('lineControl', 0, 0xff),
    modemControl: bits('modemControl', MODEM_CONTROL_BITS),
    modemDelta: bits('modemDelta', MODEM_DELTA_BITS),
    lineErrors: bits('lineErrors', LINE_ERROR_BITS),
    scratch: fields.integer('scratch', 0, 0xff),
    transmitterEmptied: fields.flag('transmitterEmptied'),
    received: fields.bytes('received', 0, (fifoControl & FIFO_ENABLED) !== 0 ? FIFO_SIZE : 1),
    inbox: fields.bytes('inbox', 0, INBOX_SIZE),
  };
  fields.end();
  return state;
}
