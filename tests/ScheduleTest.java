import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.xml.sax.InputSource;
import picocli.CommandLine;

/** `watchdog schedule` with stand-ins for crontab, systemctl and launchctl. CronTest has the real cron. */
class ScheduleTest {
    @TempDir private Path temp;
    private TestFolder home;
    private Path bin, crontab, command, rules = Path.of("rules.groovy");

    @BeforeEach void aHome() throws IOException {
        bin = Files.createDirectories(temp.resolve("bin"));
        crontab = bin.resolve("crontab.txt");
        command = temp.resolve(".local/bin/watchdog");
        home = new TestFolder(temp).rules("watch('it') { command 'true' }")
            .script("bin/crontab", """
                cd "${0%/*}"
                case $1 in
                -l) cat crontab.txt 2>/dev/null || { echo 'no crontab for me' >&2; exit 1; } ;;
                *) if [ -e refuse ]; then echo 'bad minute' >&2; exit 1; fi; cat "$1" >crontab.txt ;;
                esac""")
            .script("bin/systemctl", "echo \"$*\" >>\"$0.log\"; ! [ -e \"${0%/*}/refuse\" ]")
            .script("bin/launchctl", "echo \"$*\" >>\"$0.log\"; ! [ -e \"${0%/*}/refuse\" ]")
            .env("PATH", bin + ":/usr/bin:/bin");
    }

    /** What `schedule` would install for the rules in the home folder. */
    private Job job(Duration every) {
        var env = new Environment(home.env, temp, Clock.systemUTC(), System.out, System.err, false,
            code -> { });
        var options = new watchdog(env);
        options.rules = rules;
        return Job.of(new Context(env, options), every, null);
    }

    private static final Duration FIVE = Duration.ofMinutes(5), TEN = Duration.ofMinutes(10);

    // ---- what it prints -----------------------------------------------------------------------------

    @ParameterizedTest @CsvSource(delimiter = '|', quoteCharacter = '`', value = {
        "schedule | */5 * * * * HOME/.local/bin/watchdog --log STATE/schedule.log --quiet --rules "
            + "RULES",
        "schedule | @reboot sleep 60; HOME/.local/bin/watchdog --log STATE/schedule.log --quiet --rules "
            + "RULES",
        "schedule --every 1m | */1 * * * * HOME",
        "schedule --every 30m | */30 * * * * HOME",
        "schedule --every 60m | 0 */1 * * * HOME",
        "schedule --every 6h | 0 */6 * * * HOME",
        "schedule --rules 100%/it's$x.groovy | --rules 'HOME/100\\%/it'\\''s$x.groovy'",
        "schedule --page www/i.html | schedule.log --page HOME/www/i.html --quiet --rules RULES",
        "schedule --as systemd --page i.html | watchdog` `--page` `HOME/i.html` `--quiet`",
        "schedule --state elsewhere | --rules RULES --state HOME/elsewhere",
        "schedule --as systemd | ExecStart=`HOME/.local/bin/watchdog` `--quiet` `--rules` "
            + "`RULES`",
        "schedule --as systemd --rules 100%/it's$x.groovy | `HOME/100%%/it's$$x.groovy`",
        "schedule --as systemd | OnCalendar=*:0/5",
        "schedule --as systemd --every 2h | OnCalendar=0/2:00",
        "schedule --as launchd | <key>StartInterval</key><integer>300</integer>",
        "schedule --as launchd --every 1h | <key>StartInterval</key><integer>3600</integer>"})
    void itPrintsWhatItWouldWriteAndWritesNothing(String words, String part) throws IOException {
        Files.createDirectories(temp.resolve("100%"));
        Files.createDirectories(temp.resolve("www"));
        Path rules = Files.createDirectories(temp.resolve(".config/watchdog")).resolve("rules.groovy");
        for (Path file : new Path[] {rules, temp.resolve("100%/it's$x.groovy")})
            Files.writeString(file, "watch('it') { command 'true' }");
        Run run = home.watchdog(words.split(" ")).exits(0);
        String id = "rules-" + Text.hash(rules.toString()).substring(0, 8);
        run.says(part.replace("STATE", temp + "/.local/state/watchdog/" + id).replace('`', '"')
            .replace("RULES", rules.toString()).replace("HOME", temp.toString()));
        assertFalse(Files.exists(crontab) || Files.exists(command)
            || Files.exists(temp.resolve(".config/systemd")) || Files.exists(temp.resolve("Library")));
    }

    @ParameterizedTest @CsvSource(delimiter = '|', value = {
        "--every 7m | --every must divide an hour or a day into equal parts",
        "--every 30s | --every must divide an hour or a day into equal parts",
        "--every 90m | --every must divide an hour or a day into equal parts",
        "--every 1d | --every must divide an hour or a day into equal parts",
        "--every 61s | --every must divide an hour or a day into equal parts",
        "--every often | 'often' is not a duration; use 30m, 2h or 1d",
        "--as anacron | expected one of [cron, systemd, launchd]",
        "--install --remove | use either --install or --remove",
        "--install | there is no rules file HOME/.config/watchdog/rules.groovy; to write one: watchdog setup",
        "--install --rules none.groovy | there is no rules file HOME/none.groovy; to write one",
        "--page none/i.html | there is no folder HOME/none; make it with mkdir, or name another file",
        "--page . | HOME is a folder; name a file, for example HOME/index.html",
        "--instal | unknown option: '--instal'; did you mean --install?"})
    void aMistakeIsOneSentence(String words, String sentence) {
        Run run = home.watchdog(("schedule " + words).split(" ")).exits(2)
            .errs(sentence.replace("HOME", temp.toString()));
        assertEquals("", run.out());
        assertFalse(Files.exists(crontab) || Files.exists(command), run::toString);
    }

    /** After an update, --install without options changes nothing that a person has chosen. */
    @Test void theKindTheIntervalAndThePageOfTheLastInstallAreKept() throws Exception {
        home.file("rules.groovy", "watch('it') { command 'true' }")
            .watchdog("--rules", "rules.groovy").exits(0);
        Files.writeString(home.state().resolve("schedule"), "600");
        Files.writeString(home.state().resolve("page"), "/srv/www/i.html");
        home.watchdog("schedule", "--rules", "rules.groovy")
            .says("*/10 * * * * ").says("--page /srv/www/i.html ");
        home.watchdog("schedule", "--rules", "rules.groovy", "--every", "5m").says("*/5 * * * * ");
        Units.systemd(job(TEN)).install();
        home.watchdog("schedule", "--rules", "rules.groovy").says("OnCalendar=*:0/10")
            .errs("in place of the present schedule");
        home.watchdog("schedule", "--rules", "rules.groovy", "--as", "cron").says("*/10 * * * * ");
    }

    @Test void aSchedulerThatIsNotHereIsAMistake() throws IOException {
        Files.delete(bin.resolve("launchctl"));
        home.watchdog("schedule", "--rules", "rules.groovy", "--install", "--as", "launchd").exits(2)
            .errs("launchd is not on this machine, since there is no launchctl");
        assertFalse(Files.exists(command));
    }

    @Test void jsonIsOneObject() throws Exception {
        var json = home.watchdog("schedule", "--json", "--rules", "rules.groovy").exits(0).json();
        assertEquals(List.of(300, false, List.of("a block in your crontab"), List.of(), 0), Stream.of("every",
            "installed", "places", "problems", "exit").map(json::get).toList());
        assertEquals(new Crontab(job(FIVE)).text(), json.get("text"));
        new Crontab(job(FIVE)).install();
        json = home.watchdog("schedule", "--json", "--rules", "rules.groovy", "--remove").exits(0).json();
        assertEquals(List.of("a block in your crontab"), json.get("removed"));
    }

    /** What is remembered of the schedule, and the manual page, go with the last schedule only. */
    @Test void whatASchedulerStillNeedsIsNotRemoved() throws Exception {
        Path manual = Files.createDirectories(temp.resolve(".local/share/man/man1")).resolve("watchdog.1");
        Files.writeString(manual, "");
        new Crontab(job(FIVE)).install();
        Units.systemd(job(FIVE)).install();
        Path interval = Files.writeString(home.state().resolve("schedule"), "300");
        Path other = Files.createDirectories(home.state().resolveSibling("other-1")).resolve("schedule");
        Files.writeString(other, "300");
        for (String kind : List.of("systemd", "launchd", "cron", "cron")) {
            home.watchdog("schedule", "--remove", "--as", kind, "--rules", "rules.groovy").exits(0);
            assertEquals(!kind.equals("cron"), Files.exists(interval));
            assertTrue(Files.exists(manual));
        }
        Files.delete(other);
        new Crontab(job(FIVE)).install();
        home.watchdog("schedule", "--remove", "--rules", "rules.groovy").says("removed  " + manual);
        assertFalse(Files.exists(manual));
    }

    // ---- cron ---------------------------------------------------------------------------------------

    @ParameterizedTest @CsvSource(delimiter = '|', quoteCharacter = '`', value = {
        "none", "``", "`MAILTO=me\n# caf\u00e9\n17 4 * * 1 true\n`", "`# no newline at its end`",
        "`# >>> watchdog rules-01234567 (another)\n* * * * * true\n# <<< watchdog rules-01234567\n# end\n`"})
    void theRestOfTheCrontabIsKeptToTheByte(String before) throws Exception {
        String rest = before.equals("none") ? "" : before;
        if (!before.equals("none")) writeCrontab(before);
        new Crontab(job(TEN)).install();
        new Crontab(job(FIVE)).install();
        assertEquals((rest.isEmpty() || rest.endsWith("\n") ? rest : rest + "\n")
            + new Crontab(job(FIVE)).text(), crontab());
        new Crontab(job(FIVE)).remove();
        assertEquals(rest.isEmpty() || rest.endsWith("\n") ? rest : rest + "\n", crontab());
    }

    @Test void aBlockIsReplacedWhereItStands() throws Exception {
        new Crontab(job(TEN)).install();
        writeCrontab(crontab() + "# end\n");
        new Crontab(job(FIVE)).install();
        assertEquals(new Crontab(job(FIVE)).text() + "# end\n", crontab());
    }

    @Test void aCrontabThatIsRefusedIsUnchanged() throws Exception {
        writeCrontab("# mine\n");
        refuse();
        var refused = assertThrows(ExitException.class, () -> new Crontab(job(FIVE)).install());
        assertEquals("watchdog: crontab refused the new crontab; the old one is unchanged: bad minute",
            refused.getMessage());
        assertEquals("# mine\n", crontab());
    }

    /** An empty answer for another reason than an empty crontab: writing would lose the old one. */
    @Test void aCrontabThatCannotBeReadIsNotWritten() throws Exception {
        writeCrontab("# mine\n");
        Files.writeString(bin.resolve("crontab"), "#!/bin/sh\necho 'disk error' >&2\nexit 1\n");
        var failed = assertThrows(ExitException.class, () -> new Crontab(job(FIVE)).install());
        assertEquals("watchdog: cannot read your crontab: disk error", failed.getMessage());
        assertEquals("# mine\n", crontab());
    }

    @Test void aBlockWithoutItsEndIsLeftToAPerson() throws Exception {
        new Crontab(job(FIVE)).install();
        String broken = crontab().replaceAll("# <<<.*\n", "");
        writeCrontab(broken);
        assertThrows(ExitException.class, () -> new Crontab(job(TEN)).install());
        assertThrows(ExitException.class, () -> new Crontab(job(TEN)).remove());
        assertEquals(broken, crontab());
    }

    private void writeCrontab(String text) throws IOException {
        Files.writeString(crontab, text, StandardCharsets.ISO_8859_1);
    }

    private String crontab() throws IOException {
        return Files.readString(crontab, StandardCharsets.ISO_8859_1);
    }

    // ---- systemd and launchd ------------------------------------------------------------------------

    @Test void systemdAcceptsTheUnits() throws Exception {
        Units.systemd(job(FIVE)).install();
        String last = home.lines("bin/systemctl.log").get(2);
        assertTrue(last.matches("--user restart watchdog-rules-.*\\.timer"), last);
        assumeTrue(Files.exists(Path.of("/usr/bin/systemd-analyze")), "systemd-analyze is not installed");
        Files.createDirectories(command.getParent());
        home.script(".local/bin/watchdog", "true");
        List<String> words = new ArrayList<>(List.of("systemd-analyze", "--user", "verify"));
        Units.systemd(job(FIVE)).files().keySet().forEach(file -> words.add(file.toString()));
        var verify = new ProcessBuilder(words);
        verify.environment().put("XDG_RUNTIME_DIR", temp.toString());
        assertEquals(new Run(0, "", ""), Run.of(verify));
    }

    /** By Java's parser, and where there is one by Apple's. */
    @Test void thePlistIsWellFormed() throws Exception {
        rules = Path.of("a & <b>.groovy");
        Units agent = Units.launchd(job(TEN));
        agent.install();
        Path file = agent.files().keySet().iterator().next();
        var parser = DocumentBuilderFactory.newInstance().newDocumentBuilder();
        parser.setEntityResolver((name, url) -> new InputSource(new StringReader("")));
        var array = parser.parse(file.toFile()).getElementsByTagName("array");
        assertTrue(array.item(0).getTextContent().contains(temp + "/a & <b>.groovy"));
        if (Files.exists(Path.of("/usr/bin/plutil")))
            Run.of(new ProcessBuilder("plutil", "-lint", file.toString())).exits(0);
    }

    /** launchd needs some seconds to unload the old agent. */
    @Test void anAgentIsLoadedAgainUntilLaunchdAcceptsIt() throws Exception {
        home.script("bin/launchctl", "echo $1 >>\"$0.log\"; [ $(wc -l <\"$0.log\") = 3 ]");
        Units.launchd(job(TEN)).install();
        assertEquals(List.of("bootout", "bootstrap", "bootstrap"), home.lines("bin/launchctl.log"));
    }

    @Test void unitsThatCannotBeLoadedLeaveTheOldOnes() throws Exception {
        Units old = Units.systemd(job(TEN));
        refuse();
        assertThrows(ExitException.class, old::install);
        assertFalse(old.isInstalled());
        Files.delete(bin.resolve("refuse"));
        old.install();
        refuse();
        assertThrows(ExitException.class, () -> Units.systemd(job(FIVE)).install());
        for (Path file : old.files().keySet()) assertEquals(old.files().get(file), Files.readString(file));
        String load = "--user daemon-reload";
        List<String> log = home.lines("bin/systemctl.log");
        assertEquals(load + load, log.get(log.size() - 2) + log.get(log.size() - 1), "the old ones, too");
        old.remove();
        assertFalse(old.isInstalled());
    }

    // ---- the installed program ----------------------------------------------------------------------

    @Test void aNewVersionStandsBesideTheOldOneUntilTheNextOne() throws Exception {
        Path jar = temp.resolve("app.jar");
        for (int version = 1; version <= 3; version++) {
            Files.writeString(jar, "x".repeat(version));
            install(jar);
            install(Path.of(line("folder=")).resolve("app.jar")); // the installed one, once more
            assertEquals(version, Files.size(Path.of(line("folder=")).resolve("app.jar")));
            assertEquals(Math.min(version, 2), temp.resolve(".local/share/watchdog").toFile().list().length);
        }
    }

    @Test void theManualPageHasEachCommandAndOption() throws Exception {
        var model = new CommandLine(new watchdog(null));
        for (Object tool : List.of(new setup(), new schedule(), new report(), new drill()))
            model.addSubcommand(tool);
        Path page = temp.resolve("watchdog.1");
        Files.writeString(page, new ManPage(model.getCommandSpec()).text());
        String roff = Files.readString(page).replace("\\-", "-");
        model.getSubcommands().forEach((name, command) -> {
            assertTrue(roff.contains(".SS \\fBwatchdog " + name + "\\fR"), name);
            command.getCommandSpec().options().forEach(option ->
                assertTrue(roff.contains("\\fB" + option.longestName() + "\\fR"), option.longestName()));
        });
        assertTrue(roff.contains("another pass is running"), roff);
        assertEquals(2, roff.split("The rules; default: \\\\[(]ti/.config/watchdog/rules.groovy").length - 1);
        if (!Files.exists(Path.of("/usr/bin/groff"))) return;
        Run shown = Run.of(new ProcessBuilder("groff", "-man", "-Tutf8", "-ww", page.toString()));
        assertEquals("", shown.exits(0).err());
        assertTrue(shown.out().contains("source <(watchdog completion)"), shown.out());
        assertTrue(shown.out().contains("such as 'status == 401'"), shown.out());
    }

    @Test void aCommandOfSomebodyElseIsNotOverwritten() throws Exception {
        Files.createDirectories(command.getParent());
        Files.writeString(command, "mine");
        assertThrows(IOException.class, () -> install(home.file("app.jar", "").folder.resolve("app.jar")));
        assertEquals("mine", Files.readString(command));
    }

    private void install(Path jar) throws IOException {
        new Installation(command, temp.resolve(".local/share/watchdog"), List.of(jar), List.of()).install();
    }

    private String line(String begin) throws IOException {
        return Files.readAllLines(command).stream().filter(line -> line.startsWith(begin)).findFirst()
            .orElseThrow().replace(begin, "");
    }

    private void refuse() { home.file("bin/refuse", ""); }
}
