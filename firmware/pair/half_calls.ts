/**
 * What the owners of the two halves ask of each other: requests like those of the management API, on the interconnect alone
 * (`calls.ts`), or within the appliance that owns both. `pair_api.ts` does not let anybody else in.
 */
import * as v from "valibot";
import { toHex } from "../codec/bytes.ts";
import type { ApiAnswer } from "../manage/api.ts";
import type { Result } from "../manage/control.ts";
import type { Tenure } from "../manage/tenure.ts";
import type { HostFront } from "./host_front.ts";
import type { HalfNumber } from "./limits.ts";
import type { Engine } from "./partnership_options.ts";

export const halfCallPrefix = "/half/";

const id = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/));
const name = v.pipe(v.string(), v.maxLength(63));
const mapping = v.object({ volume: name, lun: v.number(), readOnly: v.boolean() });
/** Of volumes. Absent from a partner that is older than these. */
const uuids = v.optional(v.array(id), []);
const schemas = {
  hold: v.object({ uuids: v.array(id), isHeld: v.boolean() }),
  adopt: v.object({
    parcel: v.record(v.string(), v.unknown()),
    volumes: v.array(name),
    uuids,
    mappings: v.array(v.object({ host: name, mapping })),
    reservations: v.record(id, v.unknown()),
    wasServed: v.boolean(),
  }),
  forget: v.object({ volumes: v.array(name), uuids }),
  cede: v.object({ slabs: v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(65536)) }),
  /** What was ceded has been received: owners of earlier versions wait for it. */
  ceded: v.object({ slabs: v.array(v.number()) }),
  move: v.object({ group: name, timeoutMs: v.number() }),
  prepare: v.object({}),
};

const bytes = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const claimsSchema = v.object({
  groups: v.array(v.object({ id, claim: v.pipe(v.number(), v.safeInteger()), leaving: v.boolean() })),
  /** `PoolHalf.claims`, as hex digits. */
  slabs: v.pipe(v.string(), v.regex(/^(?:[0-9a-f]{2})*$/)),
  /** It has asked the other half for slabs and has not received them: some may be on their way. Earlier versions do not say it. */
  isAsking: v.optional(v.boolean()),
  /** What it could cede: free, and promised to nobody. */
  freeBytes: bytes,
  slabBytes: v.pipe(bytes, v.minValue(1)),
});
export type Claims = Readonly<v.InferOutput<typeof claimsSchema>>;

export interface HalfCallParts {
  readonly half: HalfNumber;
  /** Of the half that is asked; null: it is not owned here. */
  engine(): Engine | null;
  readonly tenure: Tenure;
  readonly front: HostFront;
  /** Moves one of the half's groups to the other half. */
  move(group: string, timeoutMs: number): Promise<Result<unknown>>;
  /** Whether the half waits for slabs that it has asked for. */
  isAsking(): boolean;
  /** Slabs have been ceded: whether they arrive is to be seen. */
  hasCeded(): void;
  /** Resolves when this appliance can take the half over. */
  ready(): Promise<void>;
}

export class HalfCalls {
  readonly #parts: HalfCallParts;
  /** A group is being taken: whoever asks what this half has waits for it. */
  #taking: Promise<unknown> = Promise.resolve();

  /** On the partner's behalf. */
  readonly #held = new Set<string>();

  constructor(parts: HalfCallParts) {
    this.#parts = parts;
  }

  /** The half is not owned here any more. */
  engineEnded(): void {
    this.#taking = Promise.resolve();
  }

  /** The partner, which has had volumes held here, is gone. */
  partnerLost(): void {
    this.#release([...this.#held]);
  }

  #release(uuids: readonly string[]): void {
    for (const uuid of uuids) this.#held.delete(uuid);
    this.#parts.front.release(uuids, this.#parts.half);
  }

  async answer(path: string, body: string): Promise<ApiAnswer> {
    const what = path.slice(halfCallPrefix.length) as keyof typeof schemas | "claims";
    if (what === "claims") return this.#withEngine((engine) => this.#claims(engine));
    const schema = schemas[what];
    const parsed = schema === undefined ? null : v.safeParse(schema, asJson(body));
    if (parsed === null || !parsed.success) return bad(`${path}: the request cannot be understood`);
    const asked = parsed.output;
    const { half, front, move, ready, hasCeded } = this.#parts;
    switch (what) {
      case "hold": {
        const { uuids, isHeld } = asked as v.InferOutput<typeof schemas.hold>;
        if (!isHeld) this.#release(uuids);
        else {
          for (const uuid of uuids) this.#held.add(uuid);
          await front.hold(uuids, half);
        }
        return ok(null);
      }
      case "adopt": {
        const transfer = asked as v.InferOutput<typeof schemas.adopt>;
        return this.#withEngine(async ({ transfers }) => {
          const adopting = transfers.adopt(transfer);
          this.#taking = adopting;
          const adopted = await adopting;
          return adopted.ok ? ok(null) : answerOf(adopted);
        });
      }
      case "forget": {
        const names = asked as v.InferOutput<typeof schemas.forget>;
        return this.#withEngine(async ({ transfers }) => {
          await transfers.forget(names);
          return ok(null);
        });
      }
      case "cede": {
        const { slabs } = asked as v.InferOutput<typeof schemas.cede>;
        return this.#withEngine(
          ({ pool }) =>
            new Promise((resolve) =>
              pool.cede(slabs, (error, ceded) => {
                if (ceded.length > 0) hasCeded();
                resolve(error === null ? ok({ slabs: ceded }) : bad(error.text));
              }),
            ),
        );
      }
      case "ceded":
        return ok(null);
      case "move": {
        const { group, timeoutMs } = asked as v.InferOutput<typeof schemas.move>;
        return answerOf(await move(group, timeoutMs));
      }
      case "prepare": {
        await ready();
        return ok(null);
      }
    }
  }

  async #claims({ pool }: Engine): Promise<ApiAnswer> {
    await this.#taking.catch(() => {});
    const claims: Claims = {
      groups: [...pool.groupClaims()],
      slabs: toHex(pool.claims()),
      isAsking: this.#parts.isAsking(),
      freeBytes: pool.usage().spareBytes,
      slabBytes: pool.slabBytes,
    };
    return ok(claims);
  }

  #withEngine(act: (engine: Engine) => Promise<ApiAnswer>): Promise<ApiAnswer> {
    const { engine, tenure } = this.#parts;
    const own = engine();
    if (own === null) return Promise.resolve(bad("the half is not owned here now"));
    return tenure.orOver(act(own), () => bad("the half has another owner now"));
  }
}

/** Of an answer to `claims`; null: it has none that can be understood. */
export function claimsIn(answer: ApiAnswer | null): Claims | null {
  const parsed = answer?.status === 200 ? v.safeParse(claimsSchema, answer.body) : null;
  return parsed?.success === true ? parsed.output : null;
}

/** Of an answer to `cede`; null: it is not known what was ceded. */
export function cededIn(answer: ApiAnswer | null): readonly number[] | null {
  const parsed = answer?.status === 200 ? v.safeParse(schemas.ceded, answer.body) : null;
  return parsed?.success === true ? parsed.output.slabs : null;
}

function asJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

function ok(body: unknown): ApiAnswer {
  return { status: 200, body };
}

function bad(text: string): ApiAnswer {
  return { status: 503, body: { error: { code: "busy", text } } };
}

function answerOf(result: Result<unknown>): ApiAnswer {
  if (result.ok) return ok(result.value);
  return { status: 409, body: { error: result.error } };
}
