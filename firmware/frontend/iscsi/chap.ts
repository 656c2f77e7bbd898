/**
 * CHAP of one login, the target's side (RFC 7143 9.2.1 and 12.1.3, RFC 1994).
 *
 *   idle ──CHAP_A──▶ challenged ──CHAP_N, CHAP_R right──▶ proved
 *                        └─ anything else ──▶ the login fails
 *
 * Invariants:
 * - A challenge is fresh from `entropy`, used once, and as long as the hash.
 * - What the initiator challenges us with is answered only after it has proved itself, is never our own challenge, and never with
 *   the secret that it proved itself with: a reflected exchange proves nothing.
 * - Secrets and responses are in no text that leaves this file.
 */
import type { Entropy } from "../../../hal/api/entropy.ts";
import type { ChapCredentials } from "../../volume/host_access.ts";
import type { ChapHash, ChapHashes } from "./ports.ts";
import { encodeHex, parseBinary, parseNumber, type TextPair } from "./text_keys.ts";

/** The numbers of IANA's "PPP authentication algorithms" (RFC 7143 12.1.3). */
const algorithms: Readonly<Record<string, { readonly hash: ChapHash; readonly bytes: number }>> = {
  5: { hash: "md5", bytes: 16 },
  6: { hash: "sha1", bytes: 20 },
  7: { hash: "sha256", bytes: 32 },
  8: { hash: "sha3-256", bytes: 32 },
};

/** 12.1.3: a challenge's binary length. */
const challengeBytesMax = 1024;

export type ChapStep = { readonly pairs: TextPair[] } | { readonly refused: string };

export class Chap {
  proved = false;
  private readonly credentials: ChapCredentials;
  private readonly own: ChapCredentials | null;
  private readonly entropy: Entropy;
  private readonly hashes: ChapHashes;
  private algorithm: { readonly hash: ChapHash; readonly bytes: number } | null = null;
  private identifier = 0;
  private challenge: Uint8Array = new Uint8Array(0);

  constructor(parts: {
    credentials: ChapCredentials;
    own: ChapCredentials | null;
    entropy: Entropy;
    hashes: ChapHashes;
  }) {
    this.credentials = parts.credentials;
    this.own = parts.own;
    this.entropy = parts.entropy;
    this.hashes = parts.hashes;
  }

  get challenged(): boolean {
    return this.algorithm !== null;
  }

  /** CHAP_A: the first algorithm of the initiator's list that is known here. */
  begin(list: string): ChapStep {
    if (this.algorithm !== null) return { refused: "CHAP_A came twice" };
    const chosen = list.split(",").find((number) => Object.hasOwn(algorithms, number));
    const algorithm = chosen === undefined ? undefined : algorithms[chosen];
    if (chosen === undefined || algorithm === undefined) return { refused: "no common CHAP algorithm" };
    this.algorithm = algorithm;
    this.identifier = this.entropy.fill(new Uint8Array(1))[0]!;
    this.challenge = this.entropy.fill(new Uint8Array(algorithm.bytes));
    return {
      pairs: [
        { key: "CHAP_A", value: chosen },
        { key: "CHAP_I", value: String(this.identifier) },
        { key: "CHAP_C", value: encodeHex(this.challenge) },
      ],
    };
  }

  /** CHAP_N and CHAP_R, and for mutual authentication CHAP_I and CHAP_C. */
  answer(keys: ReadonlyMap<string, string>): ChapStep {
    const algorithm = this.algorithm;
    if (algorithm === null || this.proved) return { refused: "a CHAP response that nobody asked for" };
    const name = keys.get("CHAP_N");
    const responseText = keys.get("CHAP_R");
    if (name === undefined || responseText === undefined) return { refused: "CHAP_N or CHAP_R is missing" };
    const response = parseBinary(responseText, algorithm.bytes);
    if (response === null || response.byteLength !== algorithm.bytes) return { refused: "CHAP_R is malformed" };
    const expected = this.respond(algorithm.hash, this.identifier, this.credentials.secret, this.challenge);
    // Both are looked at, so that a wrong name takes as long as a wrong secret.
    const secretRight = equalInConstantTime(expected, response);
    if (!secretRight || name !== this.credentials.user) return { refused: "wrong CHAP name or secret" };
    const mutual = this.answerChallenge(algorithm.hash, keys.get("CHAP_I"), keys.get("CHAP_C"));
    if ("refused" in mutual) return mutual;
    this.proved = true;
    return mutual;
  }

  private answerChallenge(hash: ChapHash, identifierText?: string, challengeText?: string): ChapStep {
    if (identifierText === undefined && challengeText === undefined) return { pairs: [] };
    if (identifierText === undefined || challengeText === undefined) return { refused: "CHAP_I without CHAP_C" };
    const identifier = parseNumber(identifierText);
    if (identifier === null || identifier > 255) return { refused: "CHAP_I is malformed" };
    const challenge = parseBinary(challengeText, challengeBytesMax);
    if (challenge === null) return { refused: "CHAP_C is malformed" };
    if (equalInConstantTime(challenge, this.challenge)) return { refused: "our own challenge was reflected" };
    const own = this.own;
    if (own === null) return { refused: "the initiator asks for mutual CHAP, for which this target has no secret" };
    if (equalInConstantTime(own.secret, this.credentials.secret)) {
      return { refused: "mutual CHAP with one secret for both directions" };
    }
    const response = this.respond(hash, identifier, own.secret, challenge);
    return {
      pairs: [
        { key: "CHAP_N", value: own.user },
        { key: "CHAP_R", value: encodeHex(response) },
      ],
    };
  }

  /** RFC 1994 4.1: the hash of identifier, secret and challenge. */
  private respond(hash: ChapHash, identifier: number, secret: Uint8Array, challenge: Uint8Array): Uint8Array {
    return this.hashes.hash(hash, [new Uint8Array([identifier]), secret, challenge]);
  }
}

/** Takes as long for the first byte that differs as for the last. */
export function equalInConstantTime(left: Uint8Array, right: Uint8Array): boolean {
  let difference = left.byteLength ^ right.byteLength;
  for (let index = 0; index < left.byteLength; index++) difference |= left[index]! ^ (right[index] ?? 0);
  return difference === 0;
}
