import java.time.Duration;
import java.util.concurrent.Callable;

/** Waits for another process or thread. The limit only ends a hanging test; no test measures time. */
final class Wait {
    private static final Duration LIMIT = Duration.ofSeconds(60);
    private static final int POLL_MILLIS = 20;

    private Wait() { }

    static void until(String what, Callable<Boolean> condition) { until(what, LIMIT, condition); }

    static void until(String what, Duration limit, Callable<Boolean> condition) {
        long deadline = System.nanoTime() + limit.toNanos();
        try {
            while (!condition.call()) {
                if (System.nanoTime() > deadline)
                    throw new AssertionError("waited " + limit.toSeconds() + " s for " + what);
                Thread.sleep(POLL_MILLIS);
            }
        } catch (Exception e) {
            throw new AssertionError("while waiting for " + what, e);
        }
    }
}
