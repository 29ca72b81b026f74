import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.BindException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

/** Something to watch: `java DemoService.java 18765`. See demo.groovy beside it. */
class DemoService {
    /** A demo that nobody remembers must not run for ever. */
    private static final int MINUTES = 10;

    public static void main(String[] arguments) throws InterruptedException {
        int port = port(arguments);
        try {
            serve(port);
        } catch (BindException e) {
            leave(1, "demo: port " + port + " is taken by another program; end that one, "
                + "or choose another port.");
        } catch (IOException e) {
            leave(1, "demo: cannot listen on port " + port + ": " + e.getMessage());
        }
        System.out.println("demo is alive on http://127.0.0.1:" + port + "/ for " + MINUTES
            + " minutes");
        TimeUnit.MINUTES.sleep(MINUTES);
        System.exit(0);
    }

    private static int port(String[] arguments) {
        if (arguments.length != 1 || !arguments[0].matches("\\d{1,5}")
            || Integer.parseInt(arguments[0]) < 1 || Integer.parseInt(arguments[0]) > 65535) {
            leave(2, "usage: java DemoService.java PORT, a port from 1 to 65535");
        }
        return Integer.parseInt(arguments[0]);
    }

    private static void serve(int port) throws IOException {
        var sick = new AtomicBoolean();
        String alive = "demo is alive, process " + ProcessHandle.current().pid() + "\n";
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.createContext("/", exchange -> {
            if (exchange.getRequestURI().getPath().equals("/sick")) sick.set(true);
            byte[] body = (sick.get() ? "demo is sick\n" : alive).getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(sick.get() ? 500 : 200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }

    private static void leave(int exitCode, String why) {
        System.err.println(why);
        System.exit(exitCode);
    }
}
