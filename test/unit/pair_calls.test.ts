/** Requests between the partners (`calls.ts`): each is answered once, and by what it has asked. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ApiAnswer } from "../../firmware/manage/api.ts";
import { Calls } from "../../firmware/pair/calls.ts";
import type { SendMessage } from "../../firmware/pair/forwarder.ts";
import type { PairMessage } from "../../firmware/pair/frame.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("pair_calls");

interface Sent {
  readonly message: PairMessage;
  readonly payload: Uint8Array;
}

/** One side; what it sends lies in `sent`. */
function side() {
  const sent: Sent[] = [];
  const send: SendMessage = (message, payload = []) => sent.push({ message, payload: Buffer.concat([...payload]) });
  return { calls: new Calls(new ManualClock(), send), sent };
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

test.run();
