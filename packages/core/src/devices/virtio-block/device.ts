/**
 * The virtual disk (OASIS virtio 1.2, section 5.2).
 *
 * A request happens as a whole at one guest time, fixed when it is submitted: then the disk is read or written, the guest's buffers
 * change, and the driver is told. If the backend answers later than that by the host's time, `advance` returns a promise and the
 * machine stands still, unseen by the guest; so what a guest sees does not depend on the speed of the host. Requests are answered
 * in the order of submission, one backend call at a time.
 *
 * The model of time: moving data takes 1 ns for 2 bytes, one request after the other, and every request takes 20 us besides.
 *
 * A request's buffers are bounded (32 MiB), because they are gathered in one piece; larger ones get an I/O error. A driver that keeps
 * to SIZE_MAX and SEG_MAX never makes one.
 */

import { StateError } from '../../state/errors.ts';
import type { DeviceContext } from '../device.ts';
import { VirtioDevice } from '../virtio/device.ts';
import { type Chain, DriverError, gather, lengthOf, scatter, slice } from '../virtio/queue.ts';
import type { BlockBackend } from './backend.ts';
import { type BlockRequest, checkVirtioBlock, QUEUE_SIZE, type VirtioBlockState } from './state.ts';

const SECTOR = 512;

/** Latency of every request, in guest nanoseconds. */
const LATENCY = 20_000n;

/** Bytes that the disk moves in one guest nanosecond. */
const BYTES_PER_NANOSECOND = 2;

/** The most bytes that one request reads, writes or clears. */
const REQUEST_MAX = 32 * 1024 * 1024;
const SEGMENTS_MAX = QUEUE_SIZE - 2;
const SEGMENT_SIZE_MAX = 128 * 1024;

/** Bytes of requests that are answered at one guest time; and what a request counts besides. */
const MOVED_AT_ONCE = REQUEST_MAX;
const REQUEST_WORK = 4096;

/** Feature bits (section 5.2.3). */
const SIZE_MAX = 1n << 1n;
const SEG_MAX = 1n << 2n;
const READ_ONLY = 1n << 5n;
const BLOCK_SIZE = 1n << 6n;
const FLUSH = 1n << 9n;
const TOPOLOGY = 1n << 10n;
const DISCARD = 1n << 13n;
const WRITE_ZEROES = 1n << 14n;

/** Request types (section 5.2.6). */
const TYPE_IN = 0;
const TYPE_OUT = 1;
const TYPE_FLUSH = 4;
const TYPE_GET_ID = 8;
const TYPE_DISCARD = 11;
const TYPE_WRITE_ZEROES = 13;

const STATUS_OK = 0;
const STATUS_IO_ERROR = 1;
const STATUS_UNSUPPORTED = 2;

/** Bytes of a request's header, of a discard or write-zeroes range, and of an id. */
const HEADER_SIZE = 16;
const RANGE_SIZE = 16;
const ID_SIZE = 20;

/** Range flag: zeroes may be made by giving the blocks up. */
const UNMAP = 1;

const REQUEST_QUEUE = 0;

type Step = () => void | Promise<void>;

/** A request that is being carried out: backend calls that are left, the answer so far. Never saved: it can be begun again. */
interface Work {
  steps: Step[];
  status: number;
  /** What goes into the request's buffers if all goes well. */
  result: Uint8Array | undefined;
  /** The backend call that has not ended. */
  waiting: Promise<void> | undefined;
  /** Why the next call could not be made now, until somebody has been told. */
  refused?: unknown;
}

export interface VirtioBlockOptions {
  /** At most 20 bytes of UTF-8; longer ones are cut. The guest sees it under /sys/block/vda/serial. */
  readonly serial?: string;
}

export class VirtioBlock extends VirtioDevice<VirtioBlockState> {
  readonly #backend: BlockBackend;
  readonly #serial: Uint8Array;
  readonly #config: Uint8Array;
  #requests: BlockRequest[] = [];
  #busyUntil = 0n;
  #work: Work | undefined;

  constructor(context: DeviceContext, backend: BlockBackend, options: VirtioBlockOptions = {}) {
    const clearing = backend.readOnly ? READ_ONLY : DISCARD | WRITE_ZEROES;
    super(context, {
      name: 'block',
      deviceId: 2,
      features: SIZE_MAX | SEG_MAX | BLOCK_SIZE | FLUSH | TOPOLOGY | clearing,
      queueSizes: [QUEUE_SIZE],
    });
    this.#backend = backend;
    this.#serial = new Uint8Array(ID_SIZE);
    this.#serial.set(new TextEncoder().encode(options.serial ?? 'braid').subarray(0, ID_SIZE));
    this.#config = configuration(backend);
  }

  /** Requests that were submitted and are not answered. */
  get underWay(): number {
    return this.#requests.length;
  }

  override deadline(): bigint | undefined {
    const first = this.#requests[0]?.due;
    const owed = super.deadline();
    return first === undefined || (owed !== undefined && owed < first) ? owed : first;
  }

  override advance(now: bigint): Promise<void> | undefined {
    super.advance(now);
    const first = this.#requests[0];
    if (first === undefined || first.due > now) return undefined;
    this.#putOff(now);
    let late: Promise<void> | undefined;
    this.serving(() => {
      this.makeRoom();
      for (;;) {
        const request = this.#requests[0];
        if (request === undefined || request.due > now) return;
        this.#work ??= this.#begin(request);
        late = this.#carryOn(this.#work);
        if (late !== undefined) return;
        this.#answer(request, this.#work);
        this.charge(sizeOf(request));
      }
    });
    return late;
  }

  /**
   * A jump of guest time has made many requests due at once: those beyond what is moved at a time are due later. To be done before the
   * first of them is answered; a second time it changes nothing, since those that are left are within the bound.
   */
  #putOff(now: bigint): void {
    let moved = 0;
    let later: bigint | undefined;
    for (const request of this.#requests) {
      if (request.due > (later ?? now)) return;
      if (later === undefined && moved >= MOVED_AT_ONCE) later = now + BigInt(Math.ceil(moved / BYTES_PER_NANOSECOND));
      if (later !== undefined) request.due = later;
      moved += sizeOf(request);
    }
  }

  override save(): VirtioBlockState {
    return {
      version: 1,
      transport: this.saveTransport(),
      requests: this.#requests.map((request) => ({
        ...request,
        data: request.data.map((segment) => ({ ...segment })),
      })),
      busyUntil: this.#busyUntil,
    };
  }

  override restore(record: unknown): void {
    const state = checkVirtioBlock(record, (transport, requests) => this.checkTransport(transport, () => requests));
    const { memory } = this.context;
    for (const [index, { data, statusAddress }] of state.requests.entries()) {
      if (
        !memory.contains(statusAddress, 1) ||
        !data.every(({ address, length }) => memory.contains(address, length))
      ) {
        throw new StateError(`block.requests[${index}]`, 'has buffers outside RAM');
      }
    }
    this.cancel();
    this.#requests = state.requests;
    this.#busyUntil = state.busyUntil;
    this.restoreTransport(state.transport);
  }

  protected override config(): Uint8Array {
    return this.#config;
  }

  protected override cancel(): void {
    this.#requests = [];
    this.#busyUntil = 0n;
    this.#work = undefined;
  }

  protected override serve(queue: number): void {
    for (let chain = this.take(queue); chain !== undefined; chain = this.take(queue)) this.#submit(chain);
  }

  /** Reads the header of a request and fixes when it happens. */
  #submit({ head, readable, readableLength, writable, writableLength }: Chain): void {
    if (readableLength < HEADER_SIZE) throw new DriverError('a request without a header');
    if (writableLength < 1) throw new DriverError('a request without room for its status');
    const { memory } = this.context;
    const header = new DataView(gather(memory, slice(readable, 0, HEADER_SIZE)).buffer);
    const type = header.getUint32(0, true);
    const sector = header.getBigUint64(8, true);
    // The status is the last byte that may be written, however the buffers are cut (section 2.7.4, message framing).
    const dataWritable = slice(writable, 0, writableLength - 1);
    const statusAddress = slice(writable, writableLength - 1, 1)[0]?.address as number;
    const fills = type === TYPE_IN || type === TYPE_GET_ID;
    const data = fills ? dataWritable : slice(readable, HEADER_SIZE, readableLength - HEADER_SIZE);
    const length = Math.min(lengthOf(data), REQUEST_MAX);

    const now = this.context.now();
    if (this.#busyUntil < now) this.#busyUntil = now;
    this.#busyUntil += BigInt(Math.ceil(length / BYTES_PER_NANOSECOND));
    this.#requests.push({ head, type, sector, data, statusAddress, due: this.#busyUntil + LATENCY });
    if (type === TYPE_IN && this.#fits(sector, length)) this.#backend.prefetch?.(Number(sector) * SECTOR, length);
  }

  /** Whether a transfer of whole sectors lies within the disk. */
  #fits(sector: bigint, length: number): boolean {
    return length % SECTOR === 0 && sector + BigInt(length / SECTOR) <= this.#backend.size / BigInt(SECTOR);
  }

  /** What carrying out a request means, in calls of the backend. */
  #begin({ type, sector, data }: BlockRequest): Work {
    const backend = this.#backend;
    const { memory } = this.context;
    const finished = (status: number): Work => ({ steps: [], status, result: undefined, waiting: undefined });
    const todo = (steps: Step[], result?: Uint8Array): Work => ({
      steps,
      status: STATUS_OK,
      result,
      waiting: undefined,
    });
    // Without FLUSH the driver cannot ask for durability, so every write has it (section 5.2.6.2).
    const durable: Step[] = this.accepted(FLUSH) ? [] : [() => backend.flush()];
    const length = lengthOf(data);
    if (length > REQUEST_MAX) return finished(STATUS_IO_ERROR);
    switch (type) {
      case TYPE_IN: {
        if (!this.#fits(sector, length)) return finished(STATUS_IO_ERROR);
        const bytes = new Uint8Array(length);
        return todo([() => backend.read(Number(sector) * SECTOR, bytes)], bytes);
      }
      case TYPE_OUT: {
        if (backend.readOnly || !this.#fits(sector, length)) return finished(STATUS_IO_ERROR);
        const bytes = gather(memory, data);
        return todo([() => backend.write(Number(sector) * SECTOR, bytes), ...durable]);
      }
      case TYPE_FLUSH:
        return todo([() => backend.flush()]);
      case TYPE_GET_ID:
        return todo([], this.#serial);
      case TYPE_DISCARD:
      case TYPE_WRITE_ZEROES: {
        if (backend.readOnly) return finished(STATUS_IO_ERROR);
        // One range a request: the configuration says so.
        if (length !== RANGE_SIZE) return finished(STATUS_UNSUPPORTED);
        const range = new DataView(gather(memory, data).buffer);
        const first = range.getBigUint64(0, true);
        const bytes = range.getUint32(8, true) * SECTOR;
        const flags = range.getUint32(12, true);
        if ((flags & ~(type === TYPE_WRITE_ZEROES ? UNMAP : 0)) !== 0) return finished(STATUS_UNSUPPORTED);
        if (bytes > REQUEST_MAX || !this.#fits(first, bytes)) return finished(STATUS_IO_ERROR);
        const offset = Number(first) * SECTOR;
        const giveUp = type === TYPE_DISCARD || (flags & UNMAP) !== 0;
        return todo([() => clear(backend, offset, bytes, giveUp), ...durable]);
      }
      default:
        return finished(STATUS_UNSUPPORTED);
    }
  }

  /**
   * Makes the backend calls of a request; a promise when one of them has not ended. Throws what says that the host has no room for one
   * now: it is made again next time.
   */
  #carryOn(work: Work): Promise<void> | undefined {
    while (work.waiting === undefined) {
      const { refused } = work;
      work.refused = undefined;
      if (refused !== undefined) throw refused;
      const [step] = work.steps;
      if (step === undefined) return undefined;
      const failed = (error: unknown) => {
        if (isRefusal(error)) {
          work.refused = error;
          return;
        }
        work.status = STATUS_IO_ERROR;
        work.result = undefined;
        work.steps = [];
      };
      const done = () => {
        work.steps.shift();
      };
      try {
        const answer = step();
        if (answer === undefined) {
          done();
          continue;
        }
        work.waiting = answer.then(done, failed).then(() => {
          work.waiting = undefined;
        });
      } catch (error) {
        failed(error);
      }
    }
    return work.waiting;
  }

  /** Puts the result into guest memory and gives the chain back. */
  #answer(request: BlockRequest, { status, result }: Work): void {
    const { memory } = this.context;
    // If there is no room for them the same is written again.
    const written = result === undefined ? 0 : scatter(memory, request.data, result);
    memory.write(request.statusAddress, Uint8Array.of(status));
    this.#requests.shift();
    this.#work = undefined;
    // The count covers bytes from the start of the writable part (section 2.7.8.2): the status only if all before it is written.
    const fills = request.type === TYPE_IN || request.type === TYPE_GET_ID;
    const complete = fills ? written === lengthOf(request.data) : true;
    this.give(REQUEST_QUEUE, request.head, complete ? written + 1 : written);
  }
}

/** What a request counts: the bytes that it moves at most, and something for itself. */
function sizeOf({ data }: BlockRequest): number {
  return Math.min(lengthOf(data), REQUEST_MAX) + REQUEST_WORK;
}

/** Whether an error says that the host has no room at the moment, which is no business of the guest's. */
function isRefusal(error: unknown): boolean {
  return (error as { code?: unknown } | undefined)?.code === 'ERR_BRAID_POOL_FULL';
}

/** Makes a range read as zeroes, by the cheapest way that the backend has. */
function clear(backend: BlockBackend, offset: number, length: number, giveUp: boolean): void | Promise<void> {
  if (giveUp && backend.discard !== undefined) return backend.discard(offset, length);
  if (backend.zero !== undefined) return backend.zero(offset, length);
  return backend.write(offset, new Uint8Array(length));
}

/** The configuration space (section 5.2.4). */
function configuration(backend: BlockBackend): Uint8Array {
  const config = new DataView(new ArrayBuffer(60));
  const pageSectors = 8;
  config.setBigUint64(0, backend.size / BigInt(SECTOR), true);
  config.setUint32(8, SEGMENT_SIZE_MAX, true);
  config.setUint32(12, SEGMENTS_MAX, true);
  config.setUint32(20, SECTOR, true);
  // Topology: physical blocks of 4 KiB (2^3 sectors), aligned, also the smallest I/O that is efficient.
  config.setUint8(24, 3);
  config.setUint16(26, pageSectors, true);
  config.setUint16(34, 1, true);
  config.setUint32(36, REQUEST_MAX / SECTOR, true);
  config.setUint32(40, 1, true);
  config.setUint32(44, pageSectors, true);
  config.setUint32(48, REQUEST_MAX / SECTOR, true);
  config.setUint32(52, 1, true);
  config.setUint8(56, 1);
  return new Uint8Array(config.buffer);
}
