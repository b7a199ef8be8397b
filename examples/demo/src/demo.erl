%% The main job, step by step on the screen: count the words of a text, look
%% into a node with `sys', kill a node and then the whole C-node while data
%% flow, and each time let the supervisor bring the co-op back and count again.
-module(demo).

-export([main/0]).

%% How long anything here may take.
-define(LIMIT, 60_000).

-record(job, {text :: file:filename(), size :: pos_integer(), wanted :: binary()}).

%% @doc Run by run.sh with the text and what `sort | uniq -c' made of it.
%% Ends the VM: with status 0 if all results were right.
-spec main() -> no_return().
main() ->
    [Text, Wanted] = init:get_plain_arguments(),
    {Pid, Ref} = spawn_monitor(fun() -> run(Text, Wanted) end),
    receive
        {'DOWN', Ref, process, Pid, normal} ->
            halt(0);
        {'DOWN', Ref, process, Pid, Reason} ->
            io:format("~nFAILED: ~tp~n", [Reason]),
            halt(1)
    end.

run(Text, WantedFile) ->
    {ok, Wanted} = file:read_file(WantedFile),
    Job = #job{text = Text, size = filelib:file_size(Text), wanted = Wanted},
    {ok, _} = application:ensure_all_started(erlangsp),
    register(demo, self()),
    {ok, Supervisor} = wordcount:start_link(demo),
    say("a C-node, ~ts, and a co-op on it run under wordcount_sup", [node(coop:head(wordcount))]),
    title("1. Count the words"),
    count(Job),
    title("2. Ask a node how it is: sys:get_status/1, of C++"),
    status(count_1),
    title("3. Kill a node while data flow: exit(Pid, kill)"),
    Victim = pid_of(count_2),
    lose(Job, io_lib:format("exit(~p, kill)", [Victim]), fun() -> exit(Victim, kill) end),
    count(Job),
    title("4. Kill the whole C-node while data flow: kill -9"),
    OsPid = os_pid(),
    Kill = "kill -9 " ++ integer_to_list(OsPid),
    lose(Job, Kill, fun() -> spawn(os, cmd, [Kill]) end),
    count(Job),
    unlink(Supervisor),
    exit(Supervisor, shutdown),
    gone(Supervisor),
    title("All results were right.").

%%% The steps

count(#job{text = Text, size = Size, wanted = Wanted}) ->
    Start = now_ms(),
    io:put_chars("   relay "),
    {ok, Chunks} = relay(coop:head(wordcount), Text, progress(Size)),
    io:put_chars("flush"),
    ok = coop:flush(wordcount, ?LIMIT),
    io:nl(),
    Ms = max(1, now_ms() - Start),
    Result = iolist_to_binary(results()),
    Words = words(Result),
    say("~ts words, ~ts of them distinct, in ~.1f s: ~.1f MB/s, ~ts words/s (~b chunks)", [
        grouped(Words), grouped(lines(Result)), Ms / 1000, Size / Ms / 1000,
        grouped(Words * 1000 div Ms), Chunks
    ]),
    Result =:= Wanted orelse exit({not_equal, kept(Result)}),
    say("equal, byte for byte, to tr | sort | uniq -c", []).

status(Name) ->
    Pid = pid_of(Name),
    say("~ts is ~p on ~ts", [Name, Pid, node(Pid)]),
    io:put_chars(indent(io_lib:format("~tp", [sys:get_status(Pid)]))).

%% Relays the text, over and over if need be, until the co-op is lost; half way
%% through the first time, `Kill' is called.
lose(#job{text = Text, size = Size, wanted = Wanted}, What, Kill) ->
    Head = coop:head(wordcount),
    Ref = monitor(process, Head),
    Half = fun() ->
        say("~ts, while data flow, after ~.1f MB", [What, Size / 2.0e6]),
        Kill()
    end,
    Deadline = now_ms() + ?LIMIT,
    {Passes, Bytes, Reason} = relay_until_lost(0, Head, Text, [{Size div 2, Half}], Deadline),
    Start = now_ms(),
    receive
        {'DOWN', Ref, process, Head, Why} ->
            say("relay_data/2 said ~0tp, a monitor of the head ~0tp", [{error, Reason}, Why])
    after ?LIMIT -> exit({still_there, Head})
    end,
    back(Head, Deadline),
    say("the supervisor had it back ~b ms later", [now_ms() - Start]),
    In = Passes * words(Wanted) + words_in(Text, Bytes),
    Out = words(iolist_to_binary(results())),
    say("lost: ~ts words, in ~.1f MB sent in since the last flush, less the ~ts that came out", [
        grouped(In - Out), (Passes * Size + Bytes) / 1.0e6, grouped(Out)
    ]).

%%% Data in

%% Marks are what to do once so many bytes are on their way. The head is named by
%% its pid: its name may have passed to the next co-op between two chunks.
relay(Head, File, Marks) ->
    Text = demo_text:open(File),
    Result = relay(Head, Text, {0, 0}, Marks),
    demo_text:close(Text),
    Result.

relay(Head, Text, {Bytes, _} = Sent, [{At, Do} | Marks]) when Bytes >= At ->
    Do(),
    relay(Head, Text, Sent, Marks);
relay(Head, Text, {Bytes, Chunks}, Marks) ->
    case demo_text:next(Text) of
        {Chunk, Text2} ->
            case coop:relay_data(Head, Chunk) of
                ok -> relay(Head, Text2, {Bytes + byte_size(Chunk), Chunks + 1}, Marks);
                {error, Reason} -> {error, Reason, Bytes}
            end;
        eof ->
            {ok, Chunks}
    end.

relay_until_lost(Passes, Head, Text, Marks, Deadline) ->
    case relay(Head, Text, Marks) of
        {error, Reason, Bytes} ->
            {Passes, Bytes, Reason};
        {ok, _Chunks} ->
            now_ms() < Deadline orelse exit(never_lost),
            relay_until_lost(Passes + 1, Head, Text, [], Deadline)
    end.

progress(Size) ->
    [{Size * N div 10, fun() -> io:format("~b% ", [N * 10]) end} || N <- lists:seq(1, 10)].

%%% Results out

%% All that has come: after flush/2 all there is.
results() ->
    receive
        {lines, Lines} -> [Lines | results()]
    after 0 -> []
    end.

%% The sum of the counts.
words(Lines) ->
    lists:sum([
        binary_to_integer(hd(binary:split(string:trim(Line, leading), <<" ">>)))
     || Line <- binary:split(Lines, <<"\n">>, [global, trim])
    ]).

lines(Lines) ->
    length(binary:matches(Lines, <<"\n">>)).

%% How many words the first so many bytes of a file are, as others count them.
words_in(_File, 0) ->
    0;
words_in(File, Bytes) ->
    true = os:putenv("DEMO_TEXT", File),
    Command = "head -c ~b \"$DEMO_TEXT\" | tr -s ' \\t\\n' '\\n' | grep -c ''",
    list_to_integer(string:trim(os:cmd(lists:flatten(io_lib:format(Command, [Bytes]))))).

kept(Result) ->
    ok = file:write_file("result.txt", Result),
    {see, filename:absname("result.txt")}.

%%% Processes

pid_of(Name) ->
    #{nodes := Nodes} = coop:info(wordcount),
    proplists:get_value(Name, Nodes).

%% The owner of the C-node has it at the end of a port.
os_pid() ->
    {ok, _CNode, Owner} = esp_nodes:find(esp),
    {links, Links} = process_info(Owner, links),
    [Port] = [Link || Link <- Links, is_port(Link)],
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    OsPid.

%% A supervisor that is just starting its child answers when it has.
back(Former, Deadline) ->
    case lists:keyfind(wordcount, 1, supervisor:which_children(wordcount_sup)) of
        {wordcount, Head, _, _} when is_pid(Head), Head =/= Former ->
            ok;
        Other ->
            now_ms() < Deadline orelse exit({not_back, Other}),
            receive
            after 1 -> back(Former, Deadline)
            end
    end.

gone(Pid) ->
    Ref = monitor(process, Pid),
    receive
        {'DOWN', Ref, process, Pid, _} -> ok
    after ?LIMIT -> exit({still_there, Pid})
    end.

%%% The screen

title(Text) ->
    io:format("~n~ts~n", [Text]).

say(Format, Args) ->
    io:format("   " ++ Format ++ "~n", Args).

indent(Text) ->
    [["   ", Line, $\n] || Line <- string:lexemes(Text, "\n")].

%% 1234567 as 1,234,567
grouped(N) when N < 1000 -> integer_to_list(N);
grouped(N) -> io_lib:format("~ts,~3..0b", [grouped(N div 1000), N rem 1000]).

now_ms() ->
    erlang:monotonic_time(millisecond).
