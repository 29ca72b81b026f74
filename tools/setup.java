///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//DESCRIPTION Writes the first rules of watchdog, as they fit this machine.
//SOURCES ../watchdog.java
//SOURCES HomeRulesCommand.java
//SOURCES ToolOutput.java

// setup: looks at the service and at this machine, writes rules.groovy and rules.secrets, and
// checks them. In reading order: the command, what the service answers, how it is restarted.

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import okhttp3.HttpUrl;
import picocli.CommandLine.Command;
import picocli.CommandLine.Parameters;

@Command(name = "setup", sortOptions = false, description = {
    "Write the first rules: requests the URL, looks for cloudflared, and proposes what fits.",
    "An existing rules.groovy is not changed; an existing rules.secrets is kept."})
public final class setup extends HomeRulesCommand {
    @Parameters(arity = "0..1", paramLabel = "URL", description = "The service to watch.")
    String url;
    private ToolOutput output;
    private Workspace work;

    public static void main(String... args) { watchdog.runTool("setup", args); }

    @Override int run() {
        output = new ToolOutput(context);
        Path rules = context.rulesFile, secrets = context.secrets.file;
        ExitException.mistakeIf(Files.exists(rules), rules + " exists, and setup never overwrites"
            + " a file; edit it, or name other rules with --rules FILE");

        context.orExit("cannot write the rules", () -> write(rules, secrets));
        if (url != null) check();
        output.say("Next: edit the lines of the rules that are marked <- . Then run"
            + " `./jbangw schedule --install`, or `jbang schedule@catalog --install`.");
        return output.end(0);
    }

    private Path write(Path rules, Path secrets) throws IOException {
        Files.createDirectories(rules.getParent());
        String text = rules();
        if (Files.exists(secrets)) {
            output.did("kept", secrets, "");
        } else {
            SecureFiles.write(secrets, SECRETS);
            output.did("wrote", secrets, " (only you can read it)");
        }
        SecureFiles.write(rules, text);
        output.did("wrote", rules, "");
        return rules;
    }

    private void check() {
        Workspace fresh = context.open(false);
        Collection<WatchResult> results = new Pass(fresh, fresh.rules().watches())
            .judge(fresh.rules().watches());
        output.field("watches", results.stream().map(result -> Json.fields("name",
            result.watch.name(), "verdict", result.verdict().word(), "reason",
            result.verdict().reason())).toList());
        if (output.isForPeople()) context.printer.results(results, 0);
    }

    private static final String SECRETS = """
        # The secrets of the rules, one in a line. Only you may read this file.
        # PUSHOVER_TOKEN=
        # PUSHOVER_USER=
        """;

    private static final String INTERNET = """
        watch('internet') { tcp '1.1.1.1:443' } // unhealthy while this machine is offline

        """;

    private String rules() {
        String address = url == null ? "https://plex.example.com/identity" : address(url);
        Response response = request(address);
        boolean isPublic = isPublic(address);
        return """
            // The rules of watchdog. Run `watchdog validate` after each edit.
            // All words of the rules: `watchdog help rules`.

            %swatch(%s) {
                url %s%s
            %s    healthy { // every line must be true
            %s    }
            %s
                // <- edit: keep one of these lines, without its //; secrets go into rules.secrets
                // notify pushover(token: secret('PUSHOVER_TOKEN'), user: secret('PUSHOVER_USER'))
                // notify ntfy(topic: 'a-name-that-nobody-can-guess')
                // notify webhook('https://example.com/hook') // gets JSON
            }
            """.formatted(isPublic ? INTERNET : "",
            quote(isPublic ? host(address).replaceFirst("\\..*", "") : "service"), quote(address),
            url == null ? " // <- edit: the URL of your service" : "",
            isPublic ? "    needs 'internet' // while it is unhealthy, nothing is restarted\n" : "",
            conditions(response).stream().map(line -> "        " + line + "\n")
                .collect(Collectors.joining()), remedy(isPublic).indent(4).stripTrailing());
    }

    static String address(String url) {
        if (url.contains("://")) return url;
        return (isPublic("https://" + url) ? "https://" : "http://") + url;
    }

    /** Not an address by number, and not a name of the local network. */
    private static boolean isPublic(String address) {
        return host(address).matches(".*\\.(?!(local|localdomain|lan|home|internal)$)[a-z]{2,}");
    }

    private static String host(String address) {
        HttpUrl parsed = HttpUrl.parse(address);
        return parsed == null ? "" : parsed.host();
    }

    private static String quote(String text) {
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'";
    }

    // == what the service answers

    /** null: there is no URL to request. */
    private Response request(String address) {
        Rules rules = probe(address);
        work = context.open(rules, false, List.of(), false);
        if (url == null) return null;
        Response response = work.checker().attempt(rules.watches().get(0)).response();
        String shown = Text.redactedUrl(address);
        if (response.status() == 0)
            output.warn("the request to " + shown + " failed: " + response.failureText());
        else output.did("found", shown + " answers "
            + response.got(false).replaceFirst("; got ", ""), "");
        return response;
    }

    private Rules probe(String address) {
        try {
            return RulesLoader.load(Path.of("URL"), "watch('x') { url " + quote(address) + " }",
                context.env, context.secrets, new CompiledRules(context.folder.resolve("one-off")));
        } catch (ExitException e) {
            String mistake = e.lines.get(0).lines().findFirst().orElse("");
            throw ExitException.mistake("watchdog: " + mistake.replaceFirst("^URL[:\\d]* ", ""));
        }
    }

    /** What a page of a healthy service is known by: Plex's word, a title, or a status in JSON. */
    private static final Pattern MARK = Pattern.compile("machineIdentifier"
        + "|(?<=<title>)[^<>\\p{Cntrl}\\p{Cf}]{3,60}(?=</title>)"
        + "|\"\\w+\" ?: ?\"(?i:ok|up|pass|healthy)\"");

    private static List<String> conditions(Response response) {
        boolean good = response != null
            && (response.status() >= 200 && response.status() < 400 || response.status() == 401);
        if (!good) return List.of("status == 200");
        List<String> conditions = new ArrayList<>(List.of("status == " + response.status()));
        Matcher mark = MARK.matcher(response.body());
        if (mark.find()) conditions.add("body.contains(" + quote(mark.group()) + ")");
        return conditions;
    }

    // == how it is restarted

    /** The question whether a service manager starts cloudflared, and how that restarts it. */
    private static final String[][] SERVICES = {
        {"systemctl is-enabled cloudflared", "sudo -n systemctl restart cloudflared"},
        {"launchctl print system/com.cloudflare.cloudflared",
            "sudo -n launchctl kickstart -k system/com.cloudflare.cloudflared"},
        {"launchctl print gui/UID/com.cloudflare.cloudflared",
            "launchctl kickstart -k gui/UID/com.cloudflare.cloudflared"},
        {"launchctl print gui/UID/homebrew.mxcl.cloudflared",
            "launchctl kickstart -k gui/UID/homebrew.mxcl.cloudflared"}};

    /** A tunnel matters to a public service only. */
    private String remedy(boolean isPublic) {
        String program = outputOf("command -v cloudflared"), user = outputOf("id -u");
        if (program.isEmpty() || !isPublic) return """
            // <- edit: keep one of these lines, without its //, with the command of your service
            // restart { run 'sudo -n systemctl restart NAME-OF-YOUR-SERVICE' }
            // restart { stop '/path/to/server --port 80'; start '/path/to/server --port 80' }
            """;
        for (String[] service : SERVICES) {
            if (outputOf(service[0].replace("UID", user)).isEmpty()) continue;
            String restart = service[1].replace("UID", user);
            output.did("found", program + ", which is installed as a service: " + restart, "");
            return restart(restart);
        }
        output.did("found", program + ", which no service manager starts", "");
        return """
            restart { // <- edit: the command that starts your tunnel
                stop  'cloudflared tunnel'
                start 'cloudflared tunnel --no-autoupdate run'
            }
            """;
    }

    private String restart(String command) {
        String[] words = command.split(" ", 4);
        String allow = !words[0].equals("sudo") ? "" : "    // Allow this once, with visudo: "
            + System.getProperty("user.name") + " ALL=(root) NOPASSWD: "
            + outputOf("command -v " + words[2]) + " " + words[3] + "\n";
        return "restart {\n" + allow + "    run '" + command + "'\n}\n";
    }

    /** What a command prints; empty if it fails. */
    private String outputOf(String command) {
        try {
            CommandResult result = work.runner()
                .run(List.of("sh", "-c", command), Duration.ofSeconds(10), Map.of());
            return result.exit() == 0 ? result.output().strip() : "";
        } catch (IllegalStateException hangs) {
            return "";
        }
    }
}
