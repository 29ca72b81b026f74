import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

/**
 * The service that tests/bench checks, on 127.0.0.1.
 *
 *     PORT PID_FILE START_MILLIS STOP_MILLIS [KEY_STORE PASSWORD]
 *
 * Every path answers with the healthy page until `/break?status` or `/break?text` is requested; `/mend` and a
 * restart undo that. The file with the process id exists from the start to the very end of the stop.
 */
final class BenchServer {
    private volatile String fault = "none";

    public static void main(String[] args) throws Exception {
        Path pidFile = Path.of(args[1]);
        Files.writeString(pidFile, ProcessHandle.current().pid() + "\n");
        Thread.sleep(Long.parseLong(args[2]));
        stopSlowly(Long.parseLong(args[3]), pidFile);
        boolean secure = args.length > 4;
        HttpServer server = secure ? https(Path.of(args[4]), args[5].toCharArray()) : HttpServer.create();
        var page = new BenchServer();
        new TestServer(server, Integer.parseInt(args[0]), (path, body) -> page.answer(path));
    }

    private static HttpServer https(Path file, char[] password) throws IOException, GeneralSecurityException {
        KeyStore keys = KeyStore.getInstance("PKCS12");
        try (InputStream in = Files.newInputStream(file)) {
            keys.load(in, password);
        }
        KeyManagerFactory managers = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        managers.init(keys, password);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(managers.getKeyManagers(), null, null);
        HttpsServer server = HttpsServer.create();
        server.setHttpsConfigurator(new HttpsConfigurator(tls));
        return server;
    }

    private static void stopSlowly(long millis, Path pidFile) {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                Thread.sleep(millis);
                Files.deleteIfExists(pidFile);
            } catch (InterruptedException | IOException e) {
                e.printStackTrace();
            }
        }));
    }

    private TestServer.Answer answer(String path) {
        if (path.startsWith("/break?")) fault = path.substring("/break?".length());
        if (path.equals("/mend")) fault = "none";
        String page = "<MediaContainer machineIdentifier=\"4711\"/>\n";
        return new TestServer.Answer(fault.equals("status") ? 530 : 200,
            fault.equals("text") ? "error code: 1033\n" : page);
    }
}
