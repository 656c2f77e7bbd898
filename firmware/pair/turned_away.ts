import type { ByteStream, StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Clock } from "../../hal/api/clock.ts";

/** The handler of a stream that nobody serves: it is closed at once, and what it brings is not heard. */
export function turnedAway(clock: Clock, stream: ByteStream): StreamHandler {
  let isOver = false;
  // A stream may be used once its handler is known to it.
  clock.defer(() => {
    if (!isOver) stream.abort();
  });
  return {
    onData: () => {},
    onDrain: () => {},
    onEnd: () => {},
    onClose: () => {
      isOver = true;
    },
  };
}
