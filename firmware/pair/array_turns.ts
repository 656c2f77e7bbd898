/**
 * Commands that give out a name or a LUN of the array: one at a time, whichever appliance they were given at, for each looks at both halves
 * before it changes one. They have their turns at the owner of the first half. Without one there are none: half of what has to be
 * looked at is not known then.
 *
 * Limit: of two commands that a hand-over of the first half comes between, one may be at work at the former owner still.
 */
import type { ApiAnswer } from "../manage/api.ts";

export interface ArrayTurnsParts {
  /** The first half is owned here. */
  isOwner(): boolean;
  /** Asks its owner; null: it is not known, or not reached. */
  askOwner(method: string, path: string, body: string): Promise<ApiAnswer> | null;
  /** What is answered while nobody owns it. */
  unsettled(): ApiAnswer;
  run(method: string, path: string, body: string): Promise<ApiAnswer>;
}

const prefix = "/array";

export class ArrayTurns {
  readonly #parts: ArrayTurnsParts;
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: ArrayTurnsParts) {
    this.#parts = parts;
  }

  /** A command that was given here. */
  async take(method: string, path: string, body: string): Promise<ApiAnswer> {
    const { isOwner, askOwner, unsettled, run } = this.#parts;
    if (isOwner()) return this.#inTurn(method, path, body);
    const answer = await (askOwner(method, prefix + path, body) ?? unsettled());
    // A partner that is older than these turns has some of its own.
    return isUnknown(answer) ? run(method, path, body) : answer;
  }

  /** A command that was given at the partner; null: it is of another kind. */
  takeForPartner(method: string, path: string, body: string): Promise<ApiAnswer> | null {
    return path.startsWith(`${prefix}/`) ? this.#inTurn(method, path.slice(prefix.length), body) : null;
  }

  #inTurn(method: string, path: string, body: string): Promise<ApiAnswer> {
    const { isOwner, unsettled, run } = this.#parts;
    const turn = this.#last.then(() => (isOwner() ? run(method, path, body) : unsettled()));
    this.#last = turn.catch(() => {});
    return turn;
  }
}

function isUnknown({ status, body }: ApiAnswer): boolean {
  const { text } = (body as { error?: { text?: unknown } } | null)?.error ?? {};
  return status === 404 && text !== undefined && String(text).startsWith(`no such resource: ${prefix}/`);
}
