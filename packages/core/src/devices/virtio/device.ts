/**
 * What all virtio devices share: the registers of the memory-mapped transport, version 2 (OASIS virtio 1.2, section 4.2), feature
 * negotiation, the status state machine, queues and interrupts. A device extends `VirtioDevice` and says what it does with chains.
 *
 * The driver is not trusted. When it breaks a rule the device forgets its requests, sets DEVICE_NEEDS_RESET, reports that as a
 * change of configuration, and touches no guest memory until it is reset (section 2.1.2).
 *
 * One leniency: VIRTIO_F_VERSION_1 is offered and a driver must accept it, but a device may go on without (section 6.1, "MAY fail
 * to operate"), and this one does, in the same formats; small systems never look at the upper half of the feature bits.
 */

import { StateError } from '../../state/errors.ts';
import type { AccessSize, Device, DeviceContext } from '../device.ts';
import { type Chain, DriverError, initialQueue, queueFault, Virtqueue } from './queue.ts';
import {
  ACKNOWLEDGE,
  CONFIG_CHANGE,
  checkTransport,
  DRIVER,
  DRIVER_OK,
  FAILED,
  FEATURES_OK,
  NEEDS_RESET,
  type TransportState,
  USED_BUFFER,
} from './state.ts';

/** Bytes of the register window on QEMU's `virt`. */
export const VIRTIO_SIZE = 0x1000;

const MAGIC_VALUE = 0x000;
const VERSION = 0x004;
const DEVICE_ID = 0x008;
const VENDOR_ID = 0x00c;
const DEVICE_FEATURES = 0x010;
const DEVICE_FEATURES_SELECT = 0x014;
const DRIVER_FEATURES = 0x020;
const DRIVER_FEATURES_SELECT = 0x024;
const QUEUE_SELECT = 0x030;
const QUEUE_SIZE_MAX = 0x034;
const QUEUE_SIZE = 0x038;
const QUEUE_READY = 0x044;
const QUEUE_NOTIFY = 0x050;
const INTERRUPT_STATUS = 0x060;
const INTERRUPT_ACK = 0x064;
const STATUS = 0x070;
const QUEUE_DESCRIPTORS_LOW = 0x080;
const QUEUE_DESCRIPTORS_HIGH = 0x084;
const QUEUE_DRIVER_LOW = 0x090;
const QUEUE_DRIVER_HIGH = 0x094;
const QUEUE_DEVICE_LOW = 0x0a0;
const QUEUE_DEVICE_HIGH = 0x0a4;
const SHARED_MEMORY_FIRST = 0x0b0;
const SHARED_MEMORY_LAST = 0x0bc;
const QUEUE_RESET = 0x0c0;
const CONFIG_GENERATION = 0x0fc;
const CONFIG = 0x100;

/** "virt" */
const MAGIC = 0x7472_6976;

/** "QEMU": drivers of small systems written for its `virt` machine ask for it. */
const VENDOR = 0x554d_4551;

/** Feature bits of all devices (section 6). */
const INDIRECT_DESC = 1n << 28n;
const EVENT_IDX = 1n << 29n;
const VERSION_1 = 1n << 32n;
const RING_RESET = 1n << 40n;
const COMMON_FEATURES = INDIRECT_DESC | EVENT_IDX | VERSION_1 | RING_RESET;

const LOW = 0xffff_ffffn;

/**
 * Units of work that a device does at a time. What is beyond is put off by as many nanoseconds of guest time as it has done units, so
 * the host's work follows from guest time, however much one notification asks for. Drivers of operating systems stay below.
 */
const WORK_AT_ONCE = 2 ** 20;
/** Units of a chain and of each of its descriptors; a byte that is moved is one. */
const CHAIN_WORK = 4000;
const DESCRIPTOR_WORK = 64;

/** What makes one virtio device different from another, for the transport. */
export interface VirtioKind {
  /** The name in messages about saved records. */
  readonly name: string;
  /** Section 5: 1 network, 2 block, 3 console, 4 entropy. */
  readonly deviceId: number;
  /** Feature bits of this kind; the transport adds those of all devices. */
  readonly features: bigint;
  /** The largest size of each queue. */
  readonly queueSizes: readonly number[];
}

export abstract class VirtioDevice<State> implements Device<State> {
  protected readonly context: DeviceContext;
  readonly #kind: VirtioKind;
  readonly #features: bigint;
  #transport: TransportState;
  #queues: Virtqueue[] = [];
  /** Units of work since the device began to serve. */
  #work = 0;

  constructor(context: DeviceContext, kind: VirtioKind) {
    this.context = context;
    this.#kind = kind;
    this.#features = kind.features | COMMON_FEATURES;
    this.#transport = initialTransport(kind.queueSizes.length);
    this.#bindQueues();
  }

  /** The device's configuration space as it is now. */
  protected abstract config(): Uint8Array;

  /** The driver has made chains available in a queue, or may have. Runs inside `serving`. */
  protected abstract serve(queue: number): void;

  /** Forgets every request under way, without answering it. */
  protected cancel(): void {}

  /** The driver reset the device: back to the beginning, but for what belongs to the host's side. */
  protected driverReset(): void {}

  abstract save(): State;
  abstract restore(state: unknown): void;

  deadline(): bigint | undefined {
    return this.#transport.owed?.due;
  }

  /** Goes on with what was put off, when it is due. */
  advance(now: bigint): Promise<void> | undefined {
    const { owed } = this.#transport;
    if (owed === undefined || owed.due > now) return undefined;
    this.#transport.owed = undefined;
    this.serving(() => {
      for (const index of this.#queues.keys()) if ((owed.queues & (1 << index)) !== 0) this.serve(index);
    });
    return undefined;
  }

  reset(): void {
    this.#resetDevice();
    this.#transport.configGeneration = 0;
  }

  /** The driver has said that it is ready, and has broken no rule since. */
  protected get running(): boolean {
    return (this.#transport.status & (DRIVER_OK | NEEDS_RESET)) === DRIVER_OK;
  }

  /** Whether the driver accepted a feature, given as a mask. */
  protected accepted(feature: bigint): boolean {
    return (this.#transport.driverFeatures & feature) !== 0n;
  }

  /** Takes the next chain of a queue, if there is one and the device has not done enough for now. Only inside `serving`. */
  protected take(queue: number): Chain | undefined {
    if (this.#work >= WORK_AT_ONCE || this.#transport.owed !== undefined) {
      this.#putOff(queue);
      return undefined;
    }
    const chain = this.#queue(queue).pop(this.accepted(INDIRECT_DESC));
    if (chain !== undefined) this.charge(CHAIN_WORK + DESCRIPTOR_WORK * chain.descriptors);
    return chain;
  }

  /** Counts work on what was taken: bytes that are moved, or what takes as long. */
  protected charge(units: number): void {
    this.#work += units;
  }

  /** Has a queue looked at again later. */
  #putOff(index: number): void {
    const transport = this.#transport;
    if (!this.#queue(index).waits) return;
    transport.owed ??= { due: this.context.now() + BigInt(this.#work), queues: 0 };
    transport.owed.queues |= 1 << index;
  }

  /** Gives a chain back to the driver with the number of bytes written to it. Only inside `serving`. */
  protected give(queue: number, head: number, written: number): void {
    this.#queue(queue).push(head, written);
  }

  /** Writes to the used rings what stands there, so that the pages of answers are there before any is given. */
  protected makeRoom(): void {
    for (const queue of this.#queues) queue.makeRoom();
  }

  /**
   * Runs work on the queues, then tells the driver about what was done. Does nothing unless the device is running. A driver that
   * breaks a rule during it loses the device until it resets it.
   */
  protected serving(work: () => void): void {
    if (!this.running) return;
    const outer = this.#work;
    this.#work = 0;
    this.#guard(() => {
      work();
      let interrupt = false;
      for (const queue of this.#queues) {
        if (queue.state.ready && queue.settle(this.accepted(EVENT_IDX))) interrupt = true;
      }
      if (interrupt) this.#raise(USED_BUFFER);
    });
    this.context.worked(this.#work);
    this.#work = outer;
  }

  /** Tells the driver that the configuration space has changed. */
  protected configChanged(): void {
    this.#transport.configGeneration = (this.#transport.configGeneration + 1) >>> 0;
    if ((this.#transport.status & DRIVER_OK) !== 0) this.#raise(CONFIG_CHANGE);
  }

  read(offset: number, size: AccessSize): number {
    if (offset >= CONFIG) return readBytes(this.config(), offset - CONFIG, size);
    // Section 4.2.2.2: control registers are accessed as aligned 32-bit words.
    if (size !== 4) return 0;
    const transport = this.#transport;
    const queue = this.#queues[transport.queueSelect];
    switch (offset) {
      case MAGIC_VALUE:
        return MAGIC;
      case VERSION:
        return 2;
      case DEVICE_ID:
        return this.#kind.deviceId;
      case VENDOR_ID:
        return VENDOR;
      case DEVICE_FEATURES:
        if (transport.deviceFeaturesSelect > 1) return 0;
        return Number((this.#features >> BigInt(32 * transport.deviceFeaturesSelect)) & LOW);
      case QUEUE_SIZE_MAX:
        return queue?.maximum ?? 0;
      case QUEUE_READY:
        return queue?.state.ready === true ? 1 : 0;
      case INTERRUPT_STATUS:
        return transport.interruptStatus;
      case STATUS:
        return transport.status;
      case CONFIG_GENERATION:
        return transport.configGeneration;
      default:
        // There are no shared memory regions: their length and base read as -1 (section 4.2.2).
        return offset >= SHARED_MEMORY_FIRST && offset <= SHARED_MEMORY_LAST ? 0xffff_ffff : 0;
    }
  }

  write(offset: number, size: AccessSize, value: number): void {
    // No device here has a configuration field that drivers may write.
    if (offset >= CONFIG || size !== 4) return;
    const transport = this.#transport;
    const word = BigInt(value >>> 0);
    switch (offset) {
      case DEVICE_FEATURES_SELECT:
        transport.deviceFeaturesSelect = value >>> 0;
        break;
      case DRIVER_FEATURES_SELECT:
        transport.driverFeaturesSelect = value >>> 0;
        break;
      case DRIVER_FEATURES:
        // Section 3.1.1: after FEATURES_OK the driver may not change its mind.
        if ((transport.status & FEATURES_OK) !== 0) break;
        if (transport.driverFeaturesSelect === 0) {
          transport.driverFeatures = (transport.driverFeatures & ~LOW) | word;
        } else if (transport.driverFeaturesSelect === 1) {
          transport.driverFeatures = (transport.driverFeatures & LOW) | (word << 32n);
        }
        break;
      case QUEUE_SELECT:
        transport.queueSelect = value >>> 0;
        break;
      case QUEUE_NOTIFY:
        if (this.#queues[value]?.state.ready === true) this.serving(() => this.serve(value));
        break;
      case INTERRUPT_ACK:
        transport.interruptStatus &= ~value;
        this.#updateInterrupt();
        break;
      case STATUS:
        this.#setStatus(value & 0xff);
        break;
      default:
        this.#setUpQueue(offset, value >>> 0);
        break;
    }
  }

  /** The transport's part of a record. */
  protected saveTransport(): TransportState {
    const { owed, queues, ...rest } = this.#transport;
    return { ...rest, queues: queues.map((queue) => ({ ...queue })), ...(owed && { owed: { ...owed } }) };
  }

  /**
   * Checks the transport's part of a record, RAM included, without taking it. `chains` says how many chains of each queue are under
   * way according to the rest of the record.
   */
  protected checkTransport(record: unknown, chains: (queue: number) => number = () => 0): TransportState {
    const { name, queueSizes } = this.#kind;
    const where = `${name}.transport`;
    const transport = checkTransport(record, queueSizes, where);
    if ((transport.status & FEATURES_OK) !== 0 && (transport.driverFeatures & ~this.#features) !== 0n) {
      throw new StateError(`${where}.driverFeatures`, 'agreed on features that this device does not have');
    }
    for (const [index, state] of transport.queues.entries()) {
      const path = `${where}.queues[${index}]`;
      const fault = state.ready ? queueFault(this.context.memory, queueSizes[index] as number, state) : undefined;
      if (fault !== undefined) throw new StateError(path, fault);
      if (state.outstanding !== chains(index)) {
        throw new StateError(
          `${path}.outstanding`,
          `${state.outstanding}, but the device holds ${chains(index)} chains`,
        );
      }
    }
    return transport;
  }

  /** Takes a checked record of the transport. */
  protected restoreTransport(transport: TransportState): void {
    this.#transport = transport;
    this.#bindQueues();
    this.#updateInterrupt();
  }

  #bindQueues(): void {
    this.#queues = this.#transport.queues.map(
      (state, index) => new Virtqueue(this.context.memory, this.#kind.queueSizes[index] as number, state),
    );
  }

  #queue(index: number): Virtqueue {
    const queue = this.#queues[index];
    if (queue === undefined) throw new RangeError(`${this.#kind.name} has no queue ${index}`);
    return queue;
  }

  /** The driver writes the status register (sections 2.1 and 3.1.1). */
  #setStatus(value: number): void {
    if (value === 0) {
      this.#resetDevice();
      return;
    }
    const transport = this.#transport;
    // A driver must not clear bits but by a reset; one that tries keeps them.
    transport.status |= value & (ACKNOWLEDGE | DRIVER | FAILED);
    if ((value & FEATURES_OK) !== 0 && (transport.driverFeatures & ~this.#features) === 0n) {
      transport.status |= FEATURES_OK;
    }
    const starts = (value & DRIVER_OK) !== 0 && (transport.status & (FEATURES_OK | DRIVER_OK)) === FEATURES_OK;
    if (!starts) return;
    transport.status |= DRIVER_OK;
    // A rule was broken while the driver set up its queues: now it may be told.
    if ((transport.status & NEEDS_RESET) !== 0) this.#raise(CONFIG_CHANGE);
    // Chains may have been made available before, when the device was not allowed to look.
    this.serving(() => {
      for (const [index, queue] of this.#queues.entries()) if (queue.state.ready) this.serve(index);
    });
  }

  #setUpQueue(offset: number, value: number): void {
    const queue = this.#queues[this.#transport.queueSelect];
    if (queue === undefined) return;
    const { state } = queue;
    if (offset === QUEUE_READY) {
      if ((value & 1) === 0) this.#stopQueue(queue);
      else if (!state.ready) this.#startQueue(queue);
      return;
    }
    if (offset === QUEUE_RESET) {
      if ((value & 1) !== 0 && this.accepted(RING_RESET)) this.#stopQueue(queue);
      return;
    }
    // Section 4.2.3.2: size and addresses are set before the queue is made ready, and stay.
    if (state.ready) return;
    const low = (address: bigint) => (address & ~LOW) | BigInt(value);
    const high = (address: bigint) => (address & LOW) | (BigInt(value) << 32n);
    switch (offset) {
      case QUEUE_SIZE:
        state.size = Math.min(value, 0xffff);
        break;
      case QUEUE_DESCRIPTORS_LOW:
        state.descriptors = low(state.descriptors);
        break;
      case QUEUE_DESCRIPTORS_HIGH:
        state.descriptors = high(state.descriptors);
        break;
      case QUEUE_DRIVER_LOW:
        state.driver = low(state.driver);
        break;
      case QUEUE_DRIVER_HIGH:
        state.driver = high(state.driver);
        break;
      case QUEUE_DEVICE_LOW:
        state.device = low(state.device);
        break;
      case QUEUE_DEVICE_HIGH:
        state.device = high(state.device);
        break;
    }
  }

  #startQueue(queue: Virtqueue): void {
    this.#guard(() => {
      const fault = queueFault(this.context.memory, queue.maximum, queue.state);
      if (fault !== undefined) throw new DriverError(fault);
      queue.state.ready = true;
    });
  }

  /** Stops a queue, by its ready register or a queue reset: its requests are forgotten (section 2.6.1). */
  #stopQueue(queue: Virtqueue): void {
    if (queue.state.outstanding > 0) this.cancel();
    queue.reset();
    const { owed } = this.#transport;
    if (owed === undefined) return;
    owed.queues &= ~(1 << this.#queues.indexOf(queue));
    if (owed.queues === 0) this.#transport.owed = undefined;
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof DriverError)) throw error;
      this.cancel();
      for (const queue of this.#queues) queue.state.outstanding = 0;
      this.#transport.owed = undefined;
      this.#transport.status |= NEEDS_RESET;
      // Section 2.1.2: the notification is for a driver that is there to hear it.
      if ((this.#transport.status & DRIVER_OK) !== 0) this.#raise(CONFIG_CHANGE);
    }
  }

  #resetDevice(): void {
    this.cancel();
    const { configGeneration } = this.#transport;
    this.#transport = { ...initialTransport(this.#queues.length), configGeneration };
    this.#bindQueues();
    this.driverReset();
    this.#updateInterrupt();
  }

  #raise(cause: number): void {
    this.#transport.interruptStatus |= cause;
    this.#updateInterrupt();
  }

  #updateInterrupt(): void {
    this.context.interrupt(this.#transport.interruptStatus !== 0);
  }
}

function initialTransport(queues: number): TransportState {
  return {
    status: 0,
    deviceFeaturesSelect: 0,
    driverFeaturesSelect: 0,
    driverFeatures: 0n,
    queueSelect: 0,
    interruptStatus: 0,
    configGeneration: 0,
    owed: undefined,
    queues: Array.from({ length: queues }, initialQueue),
  };
}

/** A little-endian number of `size` bytes; bytes beyond the end are zero. */
function readBytes(bytes: Uint8Array, offset: number, size: AccessSize): number {
  let value = 0;
  for (let index = size - 1; index >= 0; index--) value = value * 256 + (bytes[offset + index] ?? 0);
  return value;
}
