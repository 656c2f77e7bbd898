/**
 * The document of one half of a pool: the array's document as this half has it, and which groups there are, where their roots lie, and
 * how often each has changed hands.
 *
 * A group's claim grows with every step of its move between the halves (`group_moves.ts`): of two halves whose documents name the
 * group, the one with the higher claim has it. `leaving` says that the half may have lost it.
 *
 * In CBOR a group is [id, number, root index], and [..., claim, leaving (0 or 1)] once it has begun to move: a pool with one half
 * reads and writes what it always has.
 *
 * Group numbers are unique over both halves: of two, half 0 gives the odd ones, half 1 the even ones.
 */
import { decodeBody, encodeBody } from "./cbor_body.ts";
import type { Geometry } from "./geometry.ts";

export interface GroupPlace {
  readonly id: string;
  /** Unique in the pool for ever. */
  readonly number: number;
  readonly rootIndex: number;
  /** 0: never moved. */
  readonly claim: number;
  readonly leaving: boolean;
}

export interface PoolDocument {
  readonly arrayBytes: Uint8Array;
  readonly nextGroupNumber: number;
  readonly groups: readonly GroupPlace[];
}

type Numbering = Pick<Geometry, "groupsMax" | "half" | "halves">;

export function emptyPoolDocument({ half }: Numbering): PoolDocument {
  return { arrayBytes: encodeBody(null), nextGroupNumber: 1 + half, groups: [] };
}

/** Whether this half gives out the number, or has. */
export function isOwnNumber({ half, halves }: Numbering, number: number): boolean {
  return halves === 1 || number % 2 === 1 - half;
}

export function encodePoolDocument(document: PoolDocument): Uint8Array {
  const groups = document.groups.map(({ id, number, rootIndex, claim, leaving }) =>
    claim === 0 ? [id, number, rootIndex] : [id, number, rootIndex, claim, leaving ? 1 : 0],
  );
  return encodeBody({ array: document.arrayBytes, nextGroupNumber: document.nextGroupNumber, groups });
}

export function decodePoolDocument(body: unknown, numbering: Numbering): PoolDocument | null {
  if (typeof body !== "object" || body === null) return null;
  const { array, nextGroupNumber, groups } = body as Record<string, unknown>;
  if (
    !(array instanceof Uint8Array) ||
    decodeBody(array) === undefined ||
    !isCount(nextGroupNumber) ||
    !isOwnNumber(numbering, nextGroupNumber) ||
    !Array.isArray(groups)
  )
    return null;
  const places: GroupPlace[] = [];
  for (const item of groups) {
    const place = decodePlace(item);
    if (place === null || place.rootIndex >= numbering.groupsMax) return null;
    if (isOwnNumber(numbering, place.number) && place.number >= nextGroupNumber) return null;
    const { id, number, rootIndex } = place;
    if (places.some((other) => other.id === id || other.number === number || other.rootIndex === rootIndex))
      return null;
    places.push(place);
  }
  return { arrayBytes: array, nextGroupNumber, groups: places };
}

function decodePlace(item: unknown): GroupPlace | null {
  if (!Array.isArray(item)) return null;
  const [id, number, rootIndex, claim = 0, leaving = 0] = item as unknown[];
  if (typeof id !== "string" || !isCount(number) || !isCount(rootIndex) || !isCount(claim) || number === 0) return null;
  if ((leaving !== 0 && leaving !== 1) || (leaving === 1 && claim === 0)) return null;
  return { id, number, rootIndex, claim, leaving: leaving === 1 };
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
