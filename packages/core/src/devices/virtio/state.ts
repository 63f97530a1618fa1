/** What the transport of every virtio device remembers: registers and queues. It is a field of each such device's record. */

import { Fields } from '../../state/check.ts';
import { StateError } from '../../state/errors.ts';

/** Bits of the status register (OASIS virtio 1.2, section 2.1). */
export const ACKNOWLEDGE = 1;
export const DRIVER = 2;
export const DRIVER_OK = 4;
export const FEATURES_OK = 8;
export const NEEDS_RESET = 64;
export const FAILED = 128;

/** Bits of the interrupt status register (section 4.2.2). */
export const USED_BUFFER = 1;
export const CONFIG_CHANGE = 2;

export interface QueueState {
  /** Entries; 0 until the driver has chosen. */
  size: number;
  ready: boolean;
  /** Guest-physical addresses of the descriptor table, the driver area and the device area. */
  descriptors: bigint;
  driver: bigint;
  device: bigint;
  /** Index (modulo 2^16) of the next entry of the available ring that the device looks at. */
  nextAvailable: number;
  /** Index (modulo 2^16) of the next entry of the used ring that the device writes. */
  nextUsed: number;
  /** `nextUsed` when the device last decided about an interrupt. */
  signalled: number;
  /** Chains that were taken and not given back. */
  outstanding: number;
}

export interface TransportState {
  status: number;
  deviceFeaturesSelect: number;
  driverFeaturesSelect: number;
  /** Features that the driver accepts. */
  driverFeatures: bigint;
  queueSelect: number;
  interruptStatus: number;
  configGeneration: number;
  queues: QueueState[];
  /** Work that the device has put off, while there is some. */
  owed?: Owed | undefined;
}

/** A driver has asked for more than a device does at a time: it goes on later. */
export interface Owed {
  /** Guest time in nanoseconds. */
  due: bigint;
  /** The queues that it has to look at again, a bit each. */
  queues: number;
}

/** Checks a record against the largest sizes of the device's queues. Whether addresses lie in RAM is for the device to check. */
export function checkTransport(record: unknown, sizes: readonly number[], where: string): TransportState {
  const fields = new Fields(record, where);
  const state: TransportState = {
    status: fields.integer('status', 0, 0xff),
    deviceFeaturesSelect: fields.integer('deviceFeaturesSelect', 0, 0xffff_ffff),
    driverFeaturesSelect: fields.integer('driverFeaturesSelect', 0, 0xffff_ffff),
    driverFeatures: fields.u64('driverFeatures'),
    queueSelect: fields.integer('queueSelect', 0, 0xffff_ffff),
    interruptStatus: fields.integer('interruptStatus', 0, USED_BUFFER | CONFIG_CHANGE),
    configGeneration: fields.integer('configGeneration', 0, 0xffff_ffff),
    queues: fields.list('queues', sizes.length, sizes.length, checkQueue),
  };
  // A record of a device that owes nothing has no such field.
  if (typeof record === 'object' && record !== null && 'owed' in record) {
    state.owed = checkOwed(fields.record('owed'), sizes.length, `${where}.owed`);
  }
  fields.end();
  const known = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | NEEDS_RESET | FAILED;
  if ((state.status & ~known) !== 0) throw new StateError(`${where}.status`, 'has bits that do not exist');
  if ((state.status & DRIVER_OK) !== 0 && (state.status & FEATURES_OK) === 0) {
    throw new StateError(`${where}.status`, 'the driver runs without having agreed on features');
  }
  const running = (state.status & (DRIVER_OK | NEEDS_RESET)) === DRIVER_OK;
  if (!running && state.queues.some(({ outstanding }) => outstanding > 0)) {
    throw new StateError(`${where}.queues`, 'chains are under way in a device that does not run');
  }
  const owing = state.owed?.queues ?? 0;
  if (state.queues.some(({ ready }, index) => (owing & (1 << index)) !== 0 && !(running && ready))) {
    throw new StateError(`${where}.owed`, 'work is put off in a queue that does not run');
  }
  return state;
}

function checkOwed(record: unknown, queues: number, where: string): Owed {
  const fields = new Fields(record, where);
  const owed = { due: fields.u64('due'), queues: fields.integer('queues', 1, (1 << queues) - 1) };
  fields.end();
  return owed;
}

function checkQueue(record: unknown, where: string): QueueState {
  const fields = new Fields(record, where);
  const index = (name: string) => fields.integer(name, 0, 0xffff);
  const state: QueueState = {
    size: index('size'),
    ready: fields.flag('ready'),
    descriptors: fields.u64('descriptors'),
    driver: fields.u64('driver'),
    device: fields.u64('device'),
    nextAvailable: index('nextAvailable'),
    nextUsed: index('nextUsed'),
    signalled: index('signalled'),
    outstanding: index('outstanding'),
  };
  fields.end();
  if (state.outstanding > (state.ready ? state.size : 0)) {
    throw new StateError(`${where}.outstanding`, `${state.outstanding} chains under way in a queue of ${state.size}`);
  }
  return state;
}
