/** Forks of a machine: clones that run beside it in its pool, and fork points. */

import { parseMac } from '@braid/core/devices/virtio-net/device.ts';
import type { InputEvent } from '@braid/core/machine/log.ts';
import type { DiskUsers } from './disk/users.ts';
import { BraidError, fromRecord } from './errors.ts';
import { ForkPoint } from './fork-point.ts';
import type { Machine } from './machine.ts';
import type { ForkOptions } from './options.ts';
import type { Link } from './pool/link.ts';
import type { Pool } from './pool/pool.ts';
import type { Arrival, Calls, Made } from './pool/protocol.ts';

/** Steps that a thread makes before it is said to be ready: some tens of milliseconds. */
const REHEARSAL = 40_000_000n;

/** What this module needs of the machine. */
export interface ForksHost {
  readonly link: Link;
  readonly pool: Pool;
  /** Of its disks. */
  readonly images: DiskUsers;
  /** A clone that has been made. */
  clone(link: Link, made: Made): Machine;
}

/** See the methods of `Machine`. */
export class Forks {
  private readonly host: ForksHost;

  constructor(host: ForksHost) {
    this.host = host;
  }

  /** `inputs` are what enters each fork before it runs. */
  async make(
    count: number,
    options: ForkOptions | ((index: number) => ForkOptions),
    inputs: (index: number) => readonly InputEvent[] = () => [],
  ): Promise<(Machine | BraidError)[]> {
    const { points, host } = await this.capture(count);
    return Promise.all(
      points.map(async (point, index) => {
        if ('code' in point) return fromRecord(point);
        const arrival = { point, host, inputs: inputs(index), clone: true };
        try {
          return await this.clone(arrival, typeof options === 'function' ? options(index) : options);
        } catch (error) {
          return error instanceof BraidError
            ? error
            : new BraidError('ERR_BRAID_WORKER', String(error), { cause: error });
        }
      }),
    );
  }

  async point(): Promise<ForkPoint> {
    const { points, host } = await this.capture(1);
    const point = points[0]!;
    if ('code' in point) throw fromRecord(point);
    const clone = (arrival: Arrival, options: ForkOptions) => this.clone(arrival, options);
    return new ForkPoint(this.host.pool, point, host, clone, this.host.images.join());
  }

  async prepare(): Promise<void> {
    const { pool } = this.host;
    const links = pool.linksBeside(this.host.link);
    const { points, host } = await this.capture(links.length);
    await Promise.all(
      points.map(async (point, n) => {
        const link = links[n]!;
        try {
          if ('code' in point) return;
          await pool.arrive(link, pool.hold({ point, host, inputs: [], clone: true }));
          // Where the guest only waits there is nothing to rehearse.
          await link.call('step', { steps: REHEARSAL }).catch(() => {});
        } finally {
          await link.dispose();
        }
      }),
    );
  }

  /** Fork points; the images of the disks stay as they are until whoever gets these has said that he needs them. */
  private async capture(count: number): Promise<Calls['fork'][1]> {
    const leave = this.host.images.join();
    try {
      return await this.host.link.call('fork', { count });
    } finally {
      queueMicrotask(leave);
    }
  }

  private async clone(arrival: Arrival, options: ForkOptions): Promise<Machine> {
    const { seed, mac, connected, hostname, generation, time, maxSteps } = options;
    const { pool, images } = this.host;
    pool.hold(arrival);
    const leave = images.join();
    const address = mac === undefined ? {} : { mac: macOf(mac) };
    const limit = maxSteps === undefined ? {} : { maxSteps: BigInt(maxSteps) };
    const setup = { ...arrival.host.setup, ...(time === undefined ? {} : { time }), ...limit };
    const link = pool.link();
    try {
      const made = await pool.arrive(link, {
        ...arrival,
        host: { ...arrival.host, setup },
        ...(seed === undefined ? {} : { seed: BigInt(seed) }),
        ...address,
        ...(connected === undefined ? {} : { connected }),
      });
      const machine = this.host.clone(link, made);
      if (hostname !== undefined || generation !== undefined) await tellIdentity(machine, hostname, generation);
      return machine;
    } catch (error) {
      link.close(new BraidError('ERR_BRAID_DISPOSED', 'the machine was not made'));
      throw error;
    } finally {
      leave();
    }
  }
}

/** Tells a clone's guest, through its agent, who it is. */
async function tellIdentity(machine: Machine, hostname?: string, generation?: string): Promise<void> {
  if (hostname !== undefined) await machine.exec(['hostname', hostname]);
  if (generation === undefined) return;
  await machine.writeFile('/run/braid-generation', `${generation}\n`);
  // What is written there is part of the kernel's next key, a minute later at most.
  await machine.writeFile('/dev/urandom', generation);
}

function macOf(text: string): Uint8Array {
  try {
    return parseMac(text);
  } catch (error) {
    throw new BraidError('ERR_BRAID_OPTION', `${(error as Error).message}; give six bytes such as 52:54:00:12:34:57`);
  }
}
