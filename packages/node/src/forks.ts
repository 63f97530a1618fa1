/** Forks of a machine: clones that run beside it in its pool, and fork points. */

import type { ForkPoint as CorePoint } from '@braid/core/branch/fork-point.ts';
import { parseMac } from '@braid/core/devices/virtio-net/device.ts';
import type { InputEvent } from '@braid/core/machine/log.ts';
import { requireValue } from './check.ts';
import type { DiskUsers } from './disk/users.ts';
import { BraidError, type ErrorRecord, fromRecord } from './errors.ts';
import { ForkPoint } from './fork-point.ts';
import type { Machine } from './machine.ts';
import { FORK_OPTIONS, type ForkOptions } from './options.ts';
import type { Link } from './pool/link.ts';
import type { Pool } from './pool/pool.ts';
import type { Arrival, Calls, HostState, Made } from './pool/protocol.ts';

/**
 * Clones that each thread makes before it is said to be ready. What takes one from thread to thread is run so seldom that V8 would
 * interpret it for the first thirty, which then take three times as long.
 */
const REHEARSALS = 30;
/** Steps that the first of them makes: some tens of milliseconds. */
const REHEARSED_STEPS = 40_000_000n;

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
    // Asked for before anything is made: what the function throws, or bad options of one, concern the whole call.
    const optionsOf = Array.from({ length: count }, (_, n) => (typeof options === 'function' ? options(n) : options));
    for (const [n, one] of optionsOf.entries()) requireValue(FORK_OPTIONS, one, `options of fork ${n}`);
    const { points, host } = await this.capture(count);
    return Promise.all(
      points.map(async (point, index) => {
        if ('code' in point) return fromRecord(point);
        const arrival = { point, host, inputs: inputs(index), clone: true };
        try {
          return await this.clone(arrival, optionsOf[index]!);
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
    for (let n = 0; n < REHEARSALS; n++) {
      const links = this.host.pool.linksBeside(this.host.link);
      if (links.length === 0) return;
      const { points, host } = await this.capture(links.length, true);
      await Promise.all(points.map((point, i) => this.rehearse(links[i]!, point, host, n === 0)));
    }
  }

  private async rehearse(link: Link, point: CorePoint | ErrorRecord, host: HostState, long: boolean): Promise<void> {
    const { pool } = this.host;
    try {
      if ('code' in point) return;
      await pool.arrive(link, pool.hold({ point, host, inputs: [], clone: true }));
      // Where the guest only waits there is nothing to rehearse.
      await link.call('step', { steps: long ? REHEARSED_STEPS : 1n }).catch(() => {});
    } finally {
      await link.dispose();
    }
  }

  /** Fork points; the images of the disks stay as they are until whoever gets these has said that he needs them. */
  private async capture(count: number, rehearsal = false): Promise<Calls['fork'][1]> {
    const leave = this.host.images.join();
    try {
      return await this.host.link.call('fork', { count, rehearsal });
    } finally {
      queueMicrotask(leave);
    }
  }

  private async clone(arrival: Arrival, options: ForkOptions): Promise<Machine> {
    const { seed, mac, connected, hostname, generation, time, maxSteps } = options;
    const { pool, images } = this.host;
    pool.hold(arrival);
    const leave = images.join();
    const address = mac === undefined ? {} : { mac: parseMac(mac) };
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
      if (hostname !== undefined || generation !== undefined) {
        await tellIdentity(machine, link, hostname, generation);
      }
      return machine;
    } catch (error) {
      link.close(new BraidError('ERR_BRAID_DISPOSED', 'the machine was not made'));
      throw error;
    } finally {
      leave();
    }
  }
}

/** Tells a clone's guest, through its agent, who it is. Its random numbers come first: programs draw some when they start. */
async function tellIdentity(machine: Machine, link: Link, hostname?: string, generation?: string): Promise<void> {
  if (generation !== undefined) {
    await reseed(machine, link, new TextEncoder().encode(generation));
    await machine.writeFile('/run/braid-generation', `${generation}\n`);
  }
  if (hostname !== undefined) await machine.exec(['hostname', hostname]);
}

/** RNDRESEEDCRNG of the kernel's random.h: what was written to /dev/urandom counts from the next number on, not in a minute. */
const RESEED = '0x5207';
/** For a stock agent, by what a distribution has. */
const RESEED_SCRIPT = `
cat >/dev/urandom || exit 1
perl -e 'open(R, ">", "/dev/urandom") && ioctl(R, ${RESEED}, 0) || exit 1' 2>/dev/null && exit
exec python3 -c 'import fcntl; fcntl.ioctl(open("/dev/urandom", "wb"), ${RESEED})'`;

async function reseed(machine: Machine, link: Link, bytes: Uint8Array): Promise<void> {
  try {
    return await link.call('reseed', { bytes });
  } catch (error) {
    if ((error as BraidError).kind !== 'unsupported') throw error;
  }
  const { exitCode, stderr } = await machine.exec(['sh', '-c', RESEED_SCRIPT], { input: bytes });
  if (exitCode === 0) return;
  const why = `${stderr.trim() || `exit code ${exitCode}`}; install perl or python3 there, or leave generation out`;
  throw new BraidError('ERR_BRAID_AGENT', `the guest cannot renew the key of its random numbers: ${why}`);
}
