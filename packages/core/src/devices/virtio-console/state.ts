/** What the console device remembers: its ports, and control messages that wait for buffers of the driver. */

import { Fields } from '../../state/check.ts';
import { StateError } from '../../state/errors.ts';
import type { TransportState } from '../virtio/state.ts';

/** Port 0 is a console, port 1 the guest agent's. */
export const PORTS = 2;

/** Bytes that wait for a guest to read them, per port. */
export const INBOX_SIZE = 256 * 1024;

/** Control messages that wait, at most; more come only from a driver that asks for them and reads none. */
export const CONTROLS_MAX = 64;

/** Control events (OASIS virtio 1.2, section 5.3.6.2). */
export const DEVICE_READY = 0;
export const PORT_ADD = 1;
const PORT_REMOVE = 2;
export const PORT_READY = 3;
export const CONSOLE_PORT = 4;
export const RESIZE = 5;
export const PORT_OPEN = 6;
export const PORT_NAME = 7;

/** A control message to the driver; size and name are filled in when it is delivered. */
export interface Control {
  port: number;
  event: number;
  value: number;
}

export interface ConsolePortState {
  /** The driver has taken note of the port. */
  ready: boolean;
  /** Somebody in the guest has the port open. */
  guestOpen: boolean;
  /** The host has it open. */
  hostOpen: boolean;
  inbox: Uint8Array;
}

export interface VirtioConsoleState {
  readonly version: 1;
  transport: TransportState;
  /** The size of the terminal, in characters. */
  columns: number;
  rows: number;
  /** Oldest first. */
  controls: Control[];
  ports: ConsolePortState[];
}

/** Checks all but the transport, which it hands to `transport`. */
export function checkVirtioConsole(
  record: unknown,
  transport: (record: unknown) => TransportState,
  where = 'console',
): VirtioConsoleState {
  const fields = new Fields(record, where);
  fields.version(1);
  const state: VirtioConsoleState = {
    version: 1,
    transport: transport(fields.record('transport')),
    columns: fields.integer('columns', 0, 0xffff),
    rows: fields.integer('rows', 0, 0xffff),
    controls: fields.list('controls', 0, CONTROLS_MAX, checkControl),
    ports: fields.list('ports', PORTS, PORTS, checkPort),
  };
  fields.end();
  return state;
}

function checkControl(record: unknown, where: string): Control {
  const fields = new Fields(record, where);
  const control: Control = {
    port: fields.integer('port', 0, PORTS - 1),
    event: fields.integer('event', PORT_ADD, PORT_NAME),
    value: fields.integer('value', 0, 1),
  };
  fields.end();
  if (control.event === PORT_READY || control.event === PORT_REMOVE) {
    throw new StateError(`${where}.event`, `the device never sends event ${control.event}`);
  }
  return control;
}

function checkPort(record: unknown, where: string): ConsolePortState {
  const fields = new Fields(record, where);
  const port: ConsolePortState = {
    ready: fields.flag('ready'),
    guestOpen: fields.flag('guestOpen'),
    hostOpen: fields.flag('hostOpen'),
    inbox: fields.bytes('inbox', 0, INBOX_SIZE),
  };
  fields.end();
  return port;
}
