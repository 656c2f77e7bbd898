/** Requests between the partners (`calls.ts`): each is answered once, and by what it has asked. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ApiAnswer } from "../../firmware/manage/api.ts";
import { Calls } from "../../firmware/pair/calls.ts";
import type { SendMessage } from "../../firmware/pair/forwarder.ts";
import { longTextVersion, type PairMessage, pairVersion } from "../../firmware/pair/frame.ts";
import { pairLimits } from "../../firmware/pair/limits.ts";
import { partsFor, type SendText } from "../../firmware/pair/long_text.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("pair_calls");

interface Sent {
  readonly message: PairMessage;
  readonly payload: Uint8Array;
}

/** One side; what it sends lies in `sent`. `theirs`: the other side's version. */
function side(theirs = pairVersion) {
  const sent: Sent[] = [];
  const send: SendMessage = (message, payload = []) => sent.push({ message, payload: Buffer.concat([...payload]) });
  const sendText: SendText = (message, text, bytesMax) => {
    const parts = partsFor(theirs, text, bytesMax);
    for (const { part, more } of parts ?? []) send({ ...message, more }, [part]);
    return parts !== null;
  };
  return { calls: new Calls(new ManualClock(), send, sendText), sent };
}

type Side = ReturnType<typeof side>;

/** What one side has sent comes to the other one. */
function deliver(from: Side, to: Side, api: (path: string, body: string) => Promise<ApiAnswer>): void {
  for (const { message, payload } of from.sent.splice(0)) {
    if (message.kind === "call") to.calls.serve(message, payload, (_, path, body) => api(path, body));
    if (message.kind === "answer") to.calls.answered(message, payload);
  }
}

const never = () => Promise.reject(new Error("nothing is asked"));

/** What is promised to microtasks. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

test("the asker begins anew while it is answered -> the late answer is nobody's, though its id is given again", async () => {
  const owner = side();
  const before = side();
  let end = (_: ApiAnswer): void => {};
  void before.calls.ask("POST", "/half/prepare", "{}");
  deliver(before, owner, () => new Promise((resolve) => (end = resolve)));
  owner.calls.endAll("lost");
  const after = side();
  const adopted = after.calls.ask("POST", "/half/adopt", "{}");
  end({ status: 200, body: null });
  await turns();
  deliver(owner, after, never);
  deliver(after, owner, async (path) => ({ status: 503, body: path }));
  await turns();
  deliver(owner, after, never);
  assert.equal(await adopted, { status: 503, body: "/half/adopt" });
});

const echo = async (_: string, body: string) => ({ status: 200, body });
const errorOf = ({ body }: ApiAnswer) => (body as { error: { code: string; text: string } }).error;

test("requests and answers of any size up to the limit -> arrive as they were; larger ones are refused, and nothing goes out", async () => {
  const [asker, owner] = [side(), side()];
  const letters = "äöü-€";
  for (const bytes of [0, 7, 1 << 20, (1 << 20) + 1, pairLimits.callBytesMax - 16]) {
    const body = letters.repeat(bytes / 10).padEnd(bytes / 10, ".");
    const answer = asker.calls.ask("POST", "/half/adopt", body);
    deliver(asker, owner, echo);
    await turns();
    deliver(owner, asker, never);
    assert.equal(await answer, { status: 200, body }, `${bytes}`);
  }
  const tooLarge = await asker.calls.ask("POST", "/half/adopt", "x".repeat(pairLimits.callBytesMax + 1));
  assert.match(errorOf(tooLarge).text, /larger than the partner takes/);
  assert.is(asker.sent.length, 0);
  const asked = asker.calls.ask("GET", "/v1/support", "");
  deliver(asker, owner, () => echo("", "x".repeat(pairLimits.callBytesMax)));
  await turns();
  deliver(owner, asker, never);
  assert.match(errorOf(await asked).text, /the answer is larger than one may be/);
});

test("a partner of the former version -> it is asked what fits one frame, and nothing in parts", async () => {
  const asker = side(longTextVersion - 1);
  void asker.calls.ask("POST", "/half/adopt", "x".repeat(pairLimits.payloadBytesMax));
  assert.is(asker.sent.splice(0).length, 1);
  const refused = await asker.calls.ask("POST", "/half/adopt", "x".repeat(pairLimits.payloadBytesMax + 1));
  assert.is(errorOf(refused).code, "invalid");
  assert.is(asker.sent.length, 0);
});

test("parts without an end, and too many of them -> one refusal, and the next request is answered", async () => {
  const [asker, owner] = [side(), side()];
  const part = new Uint8Array(pairLimits.payloadBytesMax).fill(0x20);
  const call = (id: number, more: boolean) => {
    const message = { kind: "call", id, method: "POST", path: "/half/adopt", more } as const;
    owner.calls.serve(message, part, () => Promise.reject(new Error("not asked")));
  };
  for (let count = 0; count < 3; count++) call(1, true);
  for (let count = 0; count < 9; count++) call(2, count < 8);
  const refusals = owner.sent.splice(0).map(({ message }) => message);
  assert.equal(refusals, [{ kind: "answer", id: 2, status: 400 }]);
  call(3, true);
  const answer = asker.calls.ask("POST", "/half/adopt", "{}");
  deliver(asker, owner, echo);
  await turns();
  deliver(owner, asker, never);
  assert.equal(await answer, { status: 200, body: "{}" });
});

test.run();
