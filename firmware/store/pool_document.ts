/** The pool's own document: the array's document, and which groups there are and where their roots lie. */
import { decodeBody, encodeBody } from "./cbor_body.ts";

export interface GroupPlace {
  readonly id: string;
  /** Unique in the pool for ever. */
  readonly number: number;
  readonly rootIndex: number;
}

export interface PoolDocument {
  readonly arrayBytes: Uint8Array;
  readonly nextGroupNumber: number;
  readonly groups: readonly GroupPlace[];
}

export function encodePoolDocument(document: PoolDocument): Uint8Array {
  const groups = document.groups.map((group) => [group.id, group.number, group.rootIndex]);
  return encodeBody({ array: document.arrayBytes, nextGroupNumber: document.nextGroupNumber, groups });
}

export function decodePoolDocument(body: unknown, groupsMax: number): PoolDocument | null {
  if (typeof body !== "object" || body === null) return null;
  const { array, nextGroupNumber, groups } = body as Record<string, unknown>;
  if (
    !(array instanceof Uint8Array) ||
    decodeBody(array) === undefined ||
    !isCount(nextGroupNumber) ||
    !Array.isArray(groups)
  )
    return null;
  const places: GroupPlace[] = [];
  for (const item of groups) {
    if (!Array.isArray(item)) return null;
    const [id, number, rootIndex] = item as unknown[];
    if (typeof id !== "string" || !isCount(number) || !isCount(rootIndex) || number === 0) return null;
    if (number >= nextGroupNumber || rootIndex >= groupsMax) return null;
    if (places.some((place) => place.id === id || place.number === number || place.rootIndex === rootIndex))
      return null;
    places.push({ id, number, rootIndex });
  }
  return { arrayBytes: array, nextGroupNumber, groups: places };
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
