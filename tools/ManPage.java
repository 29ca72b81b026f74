//SOURCES ../watchdog.java

// What `man watchdog` shows. Like --help, it is made from picocli's model of the commands.

import java.nio.file.Path;
import java.time.LocalDate;
import java.util.Collection;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.codehaus.groovy.runtime.StringGroovyMethods;
import picocli.CommandLine;
import picocli.CommandLine.Model.ArgSpec;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Model.PositionalParamSpec;
import picocli.CommandLine.ScopeType;

/** The manual page in the language of man(7), where a line that begins with a dot is a request. */
final class ManPage {
    private final CommandSpec watchdog;
    private final Collection<CommandSpec> commands;
    private final StringBuilder page = new StringBuilder();

    ManPage(CommandSpec watchdog) {
        this.watchdog = watchdog;
        commands = watchdog.subcommands().values().stream().map(CommandLine::getCommandSpec)
            .distinct().toList();
    }

    /** Where man looks for the page of a command in a folder of PATH, such as ~/.local/bin. */
    static Path file(Path command) {
        return command.getParent().resolveSibling("share/man/man1/watchdog.1");
    }

    String text() {
        List<String> header = List.of(watchdog.usageMessage().header());
        line(".TH WATCHDOG 1 " + LocalDate.now() + " \"" + watchdog.version()[0] + "\"");
        line(".ad l\n.nh"); // neither justified nor hyphenated: paths and commands stay whole
        section("NAME");
        line("watchdog \\- " + escape(StringGroovyMethods.uncapitalize(header.get(0)))
            .replaceFirst("\\.$", ""));
        section("SYNOPSIS");
        verbatim(Stream.of(synopsis(watchdog),
            bold("watchdog ") + italic("COMMAND") + " [" + italic("OPTIONS") + "]..."));
        section("DESCRIPTION");
        line("watchdog reads a rules file, checks the services that the rules name, restarts what");
        line("is down, checks that the restart helped, and notifies you.");
        line("One call is one such pass; cron, systemd or launchd calls it every few minutes.");
        line("To see all words of the rules, run: watchdog help rules");
        section("OPTIONS");
        options();
        section("COMMANDS");
        commands.forEach(this::command);
        section("EXIT STATUS");
        watchdog.usageMessage().exitCodeList().forEach((code, text) -> item(bold(code), text));
        section("FILES");
        files();
        section("EXAMPLES");
        verbatim(header.stream().filter(text -> text.startsWith(" ")).map(ManPage::escape));
        return page.toString();
    }

    private void line(String text) { page.append(text).append('\n'); }

    private void section(String title) { line(".SH " + title); }

    private void verbatim(Stream<String> lines) {
        line(".nf");
        lines.forEach(this::line);
        line(".fi");
    }

    private void item(String label, String text) {
        line(".TP\n" + label);
        line(escape(text));
    }

    private static String bold(String text) { return "\\fB" + escape(text) + "\\fR"; }
    private static String italic(String text) { return "\\fI" + escape(text) + "\\fR"; }

    /** Without this, hyphens and quotes would become typographic ones, which no shell knows. */
    private static String escape(String text) {
        return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
            .replace("`", "\\(ga").replace("~", "\\(ti").replaceFirst("^\\.", "\\\\&.")
            .codePoints().mapToObj(c -> c < 128 ? Character.toString(c)
                : String.format("\\[u%04X]", c)).collect(Collectors.joining());
    }

    private static String synopsis(CommandSpec command) {
        return bold(command.qualifiedName()) + " [" + italic("OPTIONS") + "]" + labels(command);
    }

    private static String labels(CommandSpec command) {
        return command.positionalParameters().stream().map(argument -> " " + label(argument))
            .collect(Collectors.joining());
    }

    private static String label(PositionalParamSpec argument) {
        String label = italic(argument.paramLabel()) + (argument.arity().max() > 1 ? "..." : "");
        return argument.arity().min() > 0 ? label : "[" + label + "]";
    }

    private void options() {
        arguments(watchdog);
        List<String> own = watchdog.options().stream()
            .filter(option -> option.scopeType() == ScopeType.LOCAL)
            .map(OptionSpec::longestName).toList();
        line(".PP\n" + escape("All commands have these options, except " + Text.list(own) + "."));
    }

    private void command(CommandSpec command) {
        line(".SS " + bold(command.qualifiedName()) + labels(command));
        line(escape(String.join(" ", command.usageMessage().description())));
        arguments(command);
    }

    private void arguments(CommandSpec command) {
        for (PositionalParamSpec argument : command.positionalParameters())
            if (argument.description().length > 0) item(label(argument), text(argument));
        for (OptionSpec option : command.options())
            if (!isRepeated(option)) item(label(option), text(option));
    }

    /** Of the inherited options a command shows only those that mean something else there. */
    private boolean isRepeated(OptionSpec option) {
        return option.inherited()
            && text(option).equals(text(watchdog.findOption(option.longestName())));
    }

    private static String label(OptionSpec option) {
        String names = Stream.of(option.names()).map(ManPage::bold)
            .collect(Collectors.joining(", "));
        return names + (option.arity().max() == 0 ? "" : " " + italic(option.paramLabel()));
    }

    private static String text(ArgSpec argument) {
        return String.format(String.join(" ", argument.description())).replace('\n', ' ');
    }

    private void files() {
        item(italic("~/.config/watchdog/rules.groovy"), "The rules, unless there is a rules.groovy"
            + " in the current folder, or --rules names a file.");
        item(italic("~/.config/watchdog/rules.secrets"), "The secrets of the rules: a line"
            + " NAME=value for each secret('NAME'). It must be readable only by you.");
        item(italic("~/.local/state/watchdog/"), "A folder for each rules file: the state of each"
            + " watch, the results of passes, the incidents, and the log of the schedule.");
        item(italic("~/.local/share/watchdog/"), "The program that the command watchdog starts.");
    }
}
