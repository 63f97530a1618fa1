import { escapeGuestText } from '../text/escape.ts';

/** Why a request to the guest agent failed. */
export type AgentErrorKind =
  /** The agent answered that it cannot do it. */
  | 'refused'
  /** The agent cannot do such things. */
  | 'unsupported'
  /** The agent said something that makes no sense. */
  | 'protocol'
  /** No answer came in time. */
  | 'timeout'
  /** The agent went away before it answered. */
  | 'gone'
  /** What the agent sent is larger than the caller allows. */
  | 'limit'
  /** The request itself is wrong. */
  | 'request';

/** A request to the guest agent that failed. Text from the guest in the message is escaped and cut. */
export class AgentError extends Error {
  readonly code = 'ERR_BRAID_AGENT';
  readonly kind: AgentErrorKind;
  /** `where` is what was asked for, such as `guest-ping`. */
  constructor(kind: AgentErrorKind, where: string, why: string) {
    super(`guest agent, ${where}: ${escapeGuestText(why, { limit: 400 })}`);
    this.name = 'AgentError';
    this.kind = kind;
  }
}
