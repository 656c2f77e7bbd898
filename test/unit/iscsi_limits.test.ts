/** The limits hold against each other. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { checkIscsiLimits, defaultIscsiLimits, type IscsiLimits } from "../../firmware/frontend/iscsi/limits.ts";

const test = suite("iscsi_limits");

test("the limits that are shipped → consistent", () => {
  checkIscsiLimits(defaultIscsiLimits);
});

test("limits under which a session could wait for ever, or that the protocol cannot say → refused", () => {
  const wrong: Partial<IscsiLimits>[] = [
    { halfOpenMax: 0 },
    { halfOpenMax: defaultIscsiLimits.sessionsMax + 1 },
    { loginTextBytesMax: 8191 },
    { receiveSegmentBytesMax: 511 },
    { receiveSegmentBytesMax: 1 << 24 },
    { burstBytesMax: 1 << 24 },
    { firstBurstBytesMax: defaultIscsiLimits.burstBytesMax + 1 },
    { firstBurstBytesMax: 0 },
    { outstandingR2tMax: 0 },
    { tasksMax: 0 },
    { writeBytesMax: defaultIscsiLimits.sessionBytesMax + 1 },
    { sharedBytesMax: defaultIscsiLimits.sessionBytesMax - 1 },
    { outputBacklogBytes: defaultIscsiLimits.sessionBytesMax + 1 },
    { guaranteedBytes: 0 },
    { textBytesMax: 8191 },
    { pingBytesMax: 4095 },
    { aheadBytesMax: 4095 },
  ];
  for (const limits of wrong) {
    assert.throws(() => checkIscsiLimits({ ...defaultIscsiLimits, ...limits }), /iscsi limits/, JSON.stringify(limits));
  }
});

test.run();
