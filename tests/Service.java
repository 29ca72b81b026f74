import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.BooleanSupplier;

/**
 * A service on loopback that is healthy while a file exists: any remedy can start it with `touch NAME.up`.
 * A remedy whose runs are to be counted appends a line to NAME.restarts.
 */
final class Service implements AutoCloseable {
    private final Path flag, counter;
    private final TestServer server;
    /** The answer while it is down. */
    volatile int status = 530;
    volatile String body = "error code: 1033";
    /** Called at the first healthy answer after an unhealthy one. */
    volatile Runnable whenBack = () -> { };
    /** Until then it stays down, also when it has been restarted. */
    volatile BooleanSupplier ready = () -> true;
    private boolean wasUp = true;

    Service(Path folder, String name) {
        flag = folder.resolve(name + ".up");
        counter = folder.resolve(name + ".restarts");
        server = new TestServer((path, body) -> answer());
    }

    private synchronized TestServer.Answer answer() {
        boolean up = up() && ready.getAsBoolean();
        if (up && !wasUp) whenBack.run();
        wasUp = up;
        return up ? new TestServer.Answer(200, "ok") : new TestServer.Answer(status, body);
    }

    String url() { return server.url(); }

    boolean up() { return Files.exists(flag); }

    void start() {
        try {
            if (!up()) Files.createFile(flag);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    void stop() {
        try {
            Files.deleteIfExists(flag);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** How many lines the remedies have appended. */
    int restarts() {
        try {
            return Files.exists(counter) ? Files.readAllLines(counter).size() : 0;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Override public void close() { server.close(); }
}
