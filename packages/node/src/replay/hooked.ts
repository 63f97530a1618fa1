/** Functions of ours at places of a replay's run. */

import { argument } from '@braid/core/check/calls.ts';
import {
  bytes,
  either,
  integer,
  list,
  optional,
  record,
  refined,
  type Schema,
  text,
  wide,
} from '@braid/core/check/schema.ts';
import { checked, U64 } from '../check.ts';
import { BraidError } from '../errors.ts';
import { warn } from '../listeners.ts';
import type { Link } from '../pool/link.ts';
import type { GuestCallResult, HookHit, HookRequest } from '../runner/replay-hooks.ts';

/** Where a function is called: before an instruction, by its address or symbol; before a system call; behind a mark of the guest. */
export type Place = bigint | HookRequest['place'];

export interface HookOptions extends Pick<HookRequest, 'program' | 'bias' | 'satp' | 'process'> {}

export interface GuestCallOptions {
  /** ELF file that has the symbol; without it that of the hook, or the kernel. */
  readonly program?: Uint8Array;
  /** Steps that the call may take. */
  readonly steps?: number;
}

const NAME = refined(text, 'a name', (name) => name !== '');
const SYMBOL = record<{ readonly symbol: string }>({ symbol: NAME });

export const PLACE: Schema<Place> = either(
  U64,
  record<{ readonly address: bigint }>({ address: U64 }),
  SYMBOL,
  record<{ readonly syscall: string | number }>({ syscall: either(NAME, integer(0)) }),
  record<{ readonly mark: string }>({ mark: text }),
);

export const HOOK_OPTIONS: Schema<HookOptions> = record<HookOptions>({
  program: optional(bytes),
  bias: optional(U64),
  satp: optional(U64),
  process: optional(text),
});

const CALL_OPTIONS = record<GuestCallOptions>({ program: optional(bytes), steps: optional(integer(1)) });
const CALL_ARGUMENT: Schema<bigint | string | Uint8Array> = either(wide(-(1n << 63n), (1n << 64n) - 1n), text, bytes);

/** The replay stands at a hook: good until the hook's function is over. */
export class Hooked {
  readonly hart: number;
  /** Steps since the recording began. */
  readonly at: bigint;
  /** Guest time since power-on, in ns. */
  readonly time: bigint;
  /** The system call that is about to be made. */
  readonly syscall: HookHit['syscall'];
  readonly registers: HookHit['registers'];
  private readonly link: Link;
  private readonly options: HookOptions;

  constructor(link: Link, { hart, at, time, syscall, registers }: HookHit, options: HookOptions) {
    this.link = link;
    this.hart = hart;
    this.at = at;
    this.time = time;
    this.syscall = syscall;
    this.registers = registers;
    this.options = options;
  }

  /** A register by its name. */
  register(name: string): bigint {
    const value = this.registers[name];
    if (value === undefined) throw new BraidError('ERR_BRAID_OPTION', `there is no register ${name}`);
    return value;
  }

  /** Memory at a virtual address: as many of the bytes as are there. */
  read(address: bigint, length: number): Promise<Uint8Array> {
    const options = { hart: this.hart };
    return this.link.call('debug', { op: 'read', address, length, options }) as Promise<Uint8Array>;
  }

  /** Calls a function of the guest in a diversion; the replay goes on as if it had not happened. */
  call(
    address: bigint | { readonly symbol: string },
    args: readonly (bigint | string | Uint8Array)[] = [],
    { program = this.options.program, steps }: GuestCallOptions = {},
  ): Promise<GuestCallResult> {
    const { bias } = this.options;
    return this.link.call('callGuest', {
      hart: this.hart,
      address,
      args,
      ...(program ? { program } : {}),
      ...(bias === undefined ? {} : { bias }),
      ...(steps === undefined ? {} : { steps }),
    });
  }
}

checked<Hooked>(Hooked.prototype, {
  rejects: {
    read: [argument('address', U64), argument('length', integer(0, 2 ** 28))],
    call: [
      argument('address', either(U64, SYMBOL)),
      argument('args', optional(list(CALL_ARGUMENT))),
      argument('options', optional(CALL_OPTIONS)),
    ],
  },
  throws: { register: [argument('name', text)] },
});

type HookFunction = (at: Hooked) => void | Promise<void>;

/** The hooks of a replay. */
export class HookTable {
  private readonly link: Link;
  private readonly hooks = new Map<number, { readonly call: HookFunction; readonly options: HookOptions }>();
  /** Counts the runs of the replay. */
  private run = 0;
  /** Whether a hook's function is under way. */
  active = false;
  /** What a hook's function threw: it ends the run. */
  private failure: { readonly error: unknown } | undefined;
  /** Ends the run under way. */
  onFailure: () => void = () => {};

  constructor(link: Link) {
    this.link = link;
    link.on('hooked', (hit) => void this.come(hit as HookHit));
  }

  async add(place: Place, call: HookFunction, options: HookOptions): Promise<() => Promise<void>> {
    const request = { place: typeof place === 'bigint' ? { address: place } : place, ...options };
    const hook = await this.link.call('hook', request);
    this.hooks.set(hook, { call, options });
    return async () => {
      this.hooks.delete(hook);
      await this.link.call('unhook', { hook });
    };
  }

  /** Throws what a hook's function has thrown, once. */
  check(): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure) throw failure.error;
  }

  /** The run is over, whatever a function still does. */
  leave(): void {
    this.run++;
    this.active = false;
  }

  private async come(hit: HookHit): Promise<void> {
    const hook = this.hooks.get(hit.hook);
    const { run } = this;
    this.active = true;
    try {
      await hook?.call(new Hooked(this.link, hit, hook.options));
    } catch (error) {
      if (run !== this.run) return warn(error);
      this.failure ??= { error };
      this.onFailure();
    } finally {
      if (run === this.run) this.active = false;
      // Whoever has ended the run meanwhile has let it go.
      await this.link.call('release', {}).catch(() => {});
    }
  }
}
