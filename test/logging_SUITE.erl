%% What a C-node's processes log reaches the `logger` of the VM, printed as OTP
%% prints its own, and cannot hurt it (protocol.md, section 15).
-module(logging_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([log/2]).
-compile([export_all, nowarn_export_all]).

-define(NAME, t_logging).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        a_task_logs_with_level_pid_and_time,
        a_task_that_throws_has_both_reports,
        a_throw_has_its_stack_as_erlang_has_one,
        a_throw_in_a_library_or_thrown_again_has_the_first_stack,
        a_deep_stack_is_cut_at_its_outer_end,
        a_crash_report_has_what_proc_libs_has,
        messages_that_wait_are_in_the_report,
        a_supervisor_reports_the_stack_too,
        a_spawned_process_of_a_plugin_has_a_stack,
        levels_texts_and_reports,
        an_event_says_where_it_is_from,
        metadata_and_domain_can_be_filtered,
        the_default_handler_lets_events_by,
        the_loggers_level_is_obeyed_at_the_source,
        a_modules_level_counts_for_its_plugin,
        levels_of_each_vm_are_its_own,
        a_spawned_function_that_fails_has_a_crash_report,
        orderly_ends_are_not_logged,
        any_bytes_can_be_logged,
        a_plugin_without_lines_or_names_says_what_it_can,
        an_image_that_has_crashed_can_be_unmapped,
        a_crash_storm_does_not_stop_the_others,
        a_flood_is_cut_and_said_to_be,
        events_sent_to_the_c_node_do_not_come_back
    ].

init_per_suite(Config) ->
    Started = esp_test_lib:start_app(),
    Plugins = [esp_test_c_node:plugin(P) || P <- [talks, crashes]],
    [{started, Started}, {owner, rpc_SUITE:start_node(?NAME, #{plugins => Plugins})} | Config].

end_per_suite(Config) ->
    rpc_SUITE:stop_node(proplists:get_value(owner, Config)),
    esp_test_lib:stop_app(proplists:get_value(started, Config)).

init_per_testcase(_, Config) ->
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, all),
    told(all, []),
    ok = logger:add_handler(?MODULE, ?MODULE, #{
        config => self(), level => all, filters => [], filter_default => log
    }),
    [{level, Level} | Config].

end_per_testcase(_, Config) ->
    ok = logger:remove_handler(?MODULE),
    ok = logger:set_primary_config(level, proplists:get_value(level, Config)),
    true = is_pid(whereis(logger)),
    true = is_pid(whereis(logger_proxy)).

%% As a logger handler: events of the C-node's processes, and how they print.
log(Event = #{level := Level, meta := Meta = #{pid := Pid}}, #{config := To}) when
    node(Pid) =/= node()
->
    Text = unicode:characters_to_list(logger_formatter:format(Event, #{single_line => false})),
    To ! {event, Level, Meta, Text, maps:get(msg, Event)};
log(_, _) ->
    ok.

event() ->
    {Level, Meta, Text, _} = full_event(),
    {Level, Meta, Text}.

full_event() ->
    receive
        {event, Level, Meta, Text, Msg} -> {Level, Meta, Text, Msg}
    after 10_000 -> ct:fail({waited_in_vain_for, event})
    end.

%% Until the C-node knows of this VM's levels, which takes a second. Other
%% applications that run here may have levels for modules of theirs.
told(Primary, Modules) ->
    esp_test_lib:eventually({told, Primary, Modules}, fun() ->
        #{node() := {Level, All}} = sys:get_state({logger_proxy, esp_node:node(?NAME)}),
        Known = {Level, [M || M = {Module, _} <- All, lists:member(Module, [talks, crashes])]},
        Known =:= {Primary, Modules} orelse {Level, All}
    end).

has(Text, Part) -> string:find(Text, Part) =/= nomatch orelse ct:fail({no, Part, in, Text}).

talker(Opts) ->
    Template = coop_flow:pipeline([coop:native(talk, talks, talk, #{})]),
    {ok, Coop} = coop:start_link(Template, Opts#{node => ?NAME}),
    Coop.

a_task_logs_with_level_pid_and_time(_) ->
    Coop = talker(#{}),
    ok = coop:relay_data(Coop, {log, <<"grüß dich"/utf8>>}),
    {notice, Meta, Text} = event(),
    has(Text, "grüß dich"),
    #{pid := Pid, time := Time, gl := Gl} = Meta,
    true = node(Gl) =:= node(),
    true = node(Pid) =:= esp_node:node(?NAME),
    true = abs(Time - erlang:system_time(microsecond)) < 60_000_000,
    ok = coop:stop(Coop).

a_task_that_throws_has_both_reports(_) ->
    process_flag(trap_exit, true),
    Coop = talker(#{}),
    Head = coop:head(Coop),
    ok = coop:relay_data(Coop, {throw, <<"too bad">>}),
    {error, #{domain := [otp]}, Terminate} = event(),
    has(Terminate, "Last message"),
    has(Terminate, "too bad"),
    {error, #{domain := [otp, sasl]}, Crash} = event(),
    has(Crash, "crasher:"),
    has(Crash, "initial call: talks:talk/2"),
    has(Crash, "exception error: {cpp_exception,"),
    has(Crash, "too bad"),
    {error, _, Terminated} = event(),
    has(Terminated, "{coop,terminated}"),
    has(Terminated, "data: {at_least,1}"),
    receive
        {'EXIT', Head, Reason} ->
            {{cpp_exception, <<"std::runtime_error">>, <<"too bad">>}, _} = Reason
    end.

%%% Stacks

crash(Datum) -> crash(?NAME, Datum).

crash(CNode, Datum) ->
    process_flag(trap_exit, true),
    Template = coop_flow:pipeline([coop:native(crash, crashes, crash, #{})]),
    {ok, Coop} = coop:start_link(Template, #{node => CNode}),
    ok = coop:relay_data(Coop, Datum),
    Coop.

%% The crash report of a co-op that ends by `Datum', and its head's reason.
crash_of(Datum) -> crash_of(?NAME, Datum).

crash_of(CNode, Datum) ->
    Head = coop:head(crash(CNode, Datum)),
    {error, #{domain := [otp]}, _} = event(),
    {error, #{domain := [otp, sasl]}, Text, {report, #{report := Report}}} = full_event(),
    {error, _, _} = event(),
    receive
        {'EXIT', Head, Reason} -> {Report, Text, Reason}
    after 10_000 -> ct:fail(still_alive)
    end.

%% The line of test/plugins/crashes.cpp that ends in this comment.
line_of(Comment) ->
    [File | _] = [
        F
     || F <- [
            filename:join([D, "test", "plugins", "crashes.cpp"])
         || D <- [filename:dirname(filename:dirname(os:getenv("ESP_BUILD_DIR")))]
        ],
        filelib:is_regular(F)
    ],
    {ok, Source} = file:read_file(File),
    Lines = string:split(Source, "\n", all),
    [Line] = [
        N
     || {N, L} <- lists:zip(lists:seq(1, length(Lines)), Lines),
        lists:suffix("; // " ++ Comment, binary_to_list(L))
    ],
    Line.

in_source(Location, Comment) ->
    Line = line_of(Comment),
    [{file, File}, {line, Line}] = Location,
    "crashes.cpp" = filename:basename(File).

a_throw_has_its_stack_as_erlang_has_one(_) ->
    {[Own, _], Text, Reason} = crash_of(throw),
    {{cpp_exception, <<"std::runtime_error">>, <<"throw">>}, Stack} = Reason,
    [{crashes, inner, 2, Inner}, {crashes, 'crash::operator()', 1, Outer}] = Stack,
    in_source(Inner, "throw"),
    in_source(Outer, "called"),
    {error_info, {error, {cpp_exception, _, _}, Stack}} = lists:keyfind(error_info, 1, Own),
    %% OTP 29 writes it the other way
    true = lists:any(fun(Between) ->
        Line = lists:concat(["in function  crashes:inner/2 (",
            proplists:get_value(file, Inner), Between, line_of("throw"), ")"]),
        string:find(Text, Line) =/= nomatch
    end, [", line ", ":"]),
    has(Text, "in call from crashes:'crash::operator()'/1 ("),
    %% of no class
    {_, _, {{cpp_exception, <<"int">>, <<>>}, [{crashes, inner, 2, Int} | _]}} = crash_of(int),
    in_source(Int, "int").

a_throw_in_a_library_or_thrown_again_has_the_first_stack(_) ->
    {_, _, {{cpp_exception, <<"std::out_of_range">>, _}, Stack}} = crash_of(at),
    {Before, [{crashes, inner, 2, At} | _]} =
        lists:splitwith(fun({_, F, _, _}) -> F =/= inner end, Stack),
    in_source(At, "at"),
    [true = is_atom(M) andalso is_integer(A) || {M, _, A, _} <- Before],
    {_, _, {{cpp_exception, _, <<"again">>}, Again}} = crash_of(again),
    [{crashes, inner, 2, Thrown}, {crashes, again, 1, _}, {crashes, 'crash::operator()', 1, _}] =
        Again,
    in_source(Thrown, "throw").

a_deep_stack_is_cut_at_its_outer_end(_) ->
    {[Own, _], _, {{cpp_exception, _, <<"deep">>}, Stack}} = crash_of(deep),
    [{crashes, inner, 2, _} | Deeper] = Stack,
    true = length(Deeper) >= 7 andalso length(Deeper) < 30,
    [deep] = lists:usort([F || {crashes, F, 1, _} <- Deeper]),
    {error_info, {error, _, Stack}} = lists:keyfind(error_info, 1, Own).

%% Item by item, beside that of a process of this VM which fails in a likewise way.
a_crash_report_has_what_proc_libs_has(_) ->
    {[Own, Neighbours] = Report, _, Reason} = crash_of(linked),
    Self = self(),
    Log = #{config => self(), level => all, filters => [], filter_default => log},
    ok = logger:add_handler(theirs, esp_test_reports, Log),
    Theirs = proc_lib:spawn(fun() ->
        Linked = proc_lib:spawn_link(fun() ->
            Self ! linked,
            receive
                never -> ok
            end
        end),
        receive
            go -> error({because, Linked})
        end
    end),
    receive
        linked -> Theirs ! go
    after 10_000 -> ct:fail(not_linked)
    end,
    [TheirOwn, [{neighbour, TheirNeighbour} | _]] =
        receive
            {theirs, #{report := R}, #{pid := Theirs}} -> R
        after 10_000 -> ct:fail(no_report)
        end,
    ok = logger:remove_handler(theirs),
    Keys = fun(L) -> [K || {K, _} <- L] end,
    %% which is of OTP 27 and later, and not known here
    {Same, Same} = {Keys(TheirOwn) -- [process_label], Keys(Own)},
    [_ | _] = Neighbours,
    Alike = Keys(TheirNeighbour) -- [process_label],
    [Alike = Keys(N) || {neighbour, N} <- Neighbours],
    {initial_call, {crashes, crash, [_, _]}} = lists:keyfind(initial_call, 1, Own),
    {pid, Pid} = lists:keyfind(pid, 1, Own),
    true = node(Pid) =:= esp_node:node(?NAME),
    {registered_name, []} = lists:keyfind(registered_name, 1, Own),
    {error_info, {error, {cpp_exception, _, _}, Stack}} = lists:keyfind(error_info, 1, Own),
    {_, Stack} = Reason,
    {ancestors, [_ | _] = Ancestors} = lists:keyfind(ancestors, 1, Own),
    {links, [_ | _] = Links} = lists:keyfind(links, 1, Own),
    true = lists:all(fun is_pid/1, Ancestors ++ Links),
    {trap_exit, false} = lists:keyfind(trap_exit, 1, Own),
    %% linked to it, or to one that is, and on the C-node
    Near = [P || {neighbour, [{pid, P} | _]} <- Neighbours],
    true = lists:any(fun(P) -> lists:member(P, Links) end, Near),
    false = lists:member(Pid, Near),
    %% and OTP's formatters make of it what they make of theirs
    [
        has(unicode:characters_to_list(Formatted), "crasher:")
     || Formatted <- [
            proc_lib:format(Report, unicode),
            proc_lib:format(Report, latin1, 20),
            proc_lib:report_cb(#{label => {proc_lib, crash}, report => Report}, #{
                single_line => true, chars_limit => 2_000, depth => 20
            })
        ]
    ],
    has(lists:flatten(proc_lib:format(Report)), "neighbour:"),
    has(
        lists:flatten(erl_error:format_exception(error, element(1, Reason), Stack)),
        "in function  crashes:inner/2"
    ).

messages_that_wait_are_in_the_report(_) ->
    Coop = crash({wait, self()}),
    Pid =
        receive
            P -> P
        after 10_000 -> ct:fail(not_waiting)
        end,
    [Pid ! {message, N} || N <- lists:seq(1, 12)],
    esp_test_lib:eventually(twelve, fun() ->
        {_, N} = erpc:call(node(Pid), erlang, process_info, [Pid, message_queue_len]),
        N =:= 12 orelse N
    end),
    Pid ! go,
    {error, #{domain := [otp]}, _} = event(),
    {error, _, _, {report, #{report := [Own, _]}}} = full_event(),
    {messages, Messages} = lists:keyfind(messages, 1, Own),
    Messages = [{message, N} || N <- lists:seq(1, length(Messages))],
    10 = length(Messages),
    {message_queue_len, 12} = lists:keyfind(message_queue_len, 1, Own),
    {error, _, _} = event(),
    Head = coop:head(Coop),
    receive
        {'EXIT', Head, _} -> ok
    after 10_000 -> ct:fail(still_alive)
    end.

a_supervisor_reports_the_stack_too(_) ->
    process_flag(trap_exit, true),
    ok = logger:add_handler(theirs, esp_test_reports, #{
        config => self(), level => all, filters => [], filter_default => log
    }),
    Template = coop_flow:pipeline([coop:native(crash, crashes, crash, #{})]),
    Child = coop:child_spec(#{id => c, template => Template, node => ?NAME, restart => temporary}),
    {ok, Sup} = supervisor:start_link(esp_test_sup, {#{}, [Child]}),
    [{c, Coop, _, _}] = supervisor:which_children(Sup),
    ok = coop:relay_data(Coop, throw),
    {Report, Text} =
        receive
            {theirs, #{label := {supervisor, child_terminated}} = R, Meta} ->
                Event = #{level => error, msg => {report, R}, meta => Meta},
                {R, lists:flatten(logger_formatter:format(Event, #{}))}
        after 10_000 -> ct:fail(no_report)
        end,
    ok = logger:remove_handler(theirs),
    #{report := Items} = Report,
    {reason, {{cpp_exception, _, _}, [{crashes, inner, 2, _} | _]}} = lists:keyfind(reason, 1, Items),
    has(Text, "crashes,inner,2"),
    unlink(Sup),
    ok = gen:stop(Sup).

a_spawned_process_of_a_plugin_has_a_stack(_) ->
    Coop = crash({spawn, self()}),
    {error, #{pid := Pid}, Text} = event(),
    receive
        Pid -> ok
    after 10_000 -> ct:fail(no_pid)
    end,
    has(Text, "exception error: {cpp_exception,<<\"std::runtime_error\">>,<<\"spawned\">>}"),
    has(Text, "in function  crashes:inner/2"),
    ok = coop:stop(Coop).

%% A copy of the plugin, by `strip Options'.
stripped(Config, Folder, Options) ->
    To = filename:join([proplists:get_value(priv_dir, Config), Folder, "crashes.so"]),
    ok = filelib:ensure_dir(To),
    "" = os:cmd(lists:concat(["strip ", Options, " -o ", To, " ", esp_test_c_node:plugin(crashes)])),
    To.

a_plugin_without_lines_or_names_says_what_it_can(Config) ->
    [
        begin
            Owner = rpc_SUITE:start_node(t_stripped, #{
                plugins => [stripped(Config, Folder, Options)]
            }),
            {_, Text, {{cpp_exception, _, <<"throw">>}, Stack}} = crash_of(t_stripped, throw),
            Check(Stack),
            has(Text, "in function  crashes:"),
            rpc_SUITE:stop_node(Owner)
        end
     || {Folder, Options, Check} <- [
            {"lines", "--strip-debug", fun(S) ->
                %% what calls it may be inlined, which only debug information tells
                [{crashes, inner, 2, []} | _] = S
            end},
            {"names", "--strip-all", fun(S) ->
                [{crashes, Offset, 0, []} | _] = S,
                "0x" ++ Digits = atom_to_list(Offset),
                true = list_to_integer(Digits, 16) > 0
            end}
        ]
    ].

%% Its file had been read for the names; nothing of that holds it.
an_image_that_has_crashed_can_be_unmapped(Config) ->
    First = esp_test_c_node:plugin(crashes),
    Owner = rpc_SUITE:start_node(t_unmapped, #{plugins => [First]}),
    {_, _, {_, [{crashes, inner, 2, [_ | _]} | _]}} = crash_of(t_unmapped, throw),
    {ok, _} = esp_plugin:load(t_unmapped, stripped(Config, "second", "--strip-debug")),
    esp_test_lib:eventually(purged, fun() -> esp_plugin:soft_purge(t_unmapped, crashes) end),
    [OsPid] = esp_test_lib:os_pids(t_unmapped),
    esp_test_lib:eventually(unmapped, fun() ->
        {ok, Maps} = file:read_file(lists:concat(["/proc/", OsPid, "/maps"])),
        Images = lists:usort([
            lists:nth(5, string:lexemes(L, " "))
         || L <- string:split(Maps, "\n", all), string:find(L, "memfd:crashes") =/= nomatch
        ]),
        length(Images) =:= 1 orelse Images
    end),
    {_, _, {_, [{crashes, inner, 2, []} | _]}} = crash_of(t_unmapped, throw),
    rpc_SUITE:stop_node(Owner).

%% All throw from one place, which is looked up once.
a_crash_storm_does_not_stop_the_others(_) ->
    process_flag(trap_exit, true),
    Steady = talker(#{receiver => self()}),
    Coops = [crash(throw) || _ <- lists:seq(1, 200)],
    [
        begin
            Head = coop:head(C),
            receive
                {'EXIT', Head, {{cpp_exception, _, _}, [{crashes, inner, 2, _} | _]}} -> ok
            after 10_000 -> ct:fail(still_alive)
            end
        end
     || C <- Coops
    ],
    {ok, still_here} = coop:call(Steady, still_here, 10_000),
    ok = coop:stop(Steady).

%%% esp::log

say(Coop, Datum) ->
    {ok, IsLogged} = coop:call(Coop, Datum, 10_000),
    IsLogged.

sayer() ->
    Template = coop_flow:pipeline([coop:native(say, crashes, say, #{})]),
    {ok, Coop} = coop:start_link(Template, #{node => ?NAME}),
    Coop.

levels_texts_and_reports(_) ->
    Coop = sayer(),
    Levels = [emergency, alert, critical, error, warning, notice, info, debug],
    [
        begin
            true = say(Coop, {Level, <<"text">>, none}),
            {Level, _, Text, {string, <<"text">>}} = full_event(),
            has(Text, "text")
        end
     || Level <- Levels
    ],
    [
        begin
            true = say(Coop, {info, Report, none}),
            {info, _, _, {report, Report}} = full_event()
        end
     || Report <- [#{a => 1, "b" => [2.5]}, [{what, happened}, {to, self()}]]
    ],
    %% what logger takes for neither is printed
    [
        begin
            true = say(Coop, {info, Other, none}),
            {info, _, Text, {"~tp", [Other]}} = full_event(),
            has(Text, lists:flatten(io_lib:format("~tp", [Other])))
        end
     || Other <- [an_atom, 17, {a, tuple}, [], [1, 2], [{a, b} | c], [{a, b}, c]]
    ],
    ok = coop:stop(Coop).

an_event_says_where_it_is_from(_) ->
    Coop = sayer(),
    true = say(Coop, {notice, <<"here">>, none}),
    {notice, Meta, _} = event(),
    #{mfa := {crashes, say, 2}, pid := Pid, gl := Gl} = Meta,
    false = is_map_key(domain, Meta),
    true = node(Pid) =:= esp_node:node(?NAME) andalso node(Gl) =:= node(),
    in_source([{K, maps:get(K, Meta)} || K <- [file, line]], "said"),
    %% it cannot say that it is from elsewhere
    true = say(Coop, {notice, <<"here">>, {k, {any, "value"}}}),
    {notice, #{pid := Pid, k := {any, "value"}}, _} = event(),
    ok = coop:stop(Coop).

metadata_and_domain_can_be_filtered(_) ->
    Coop = sayer(),
    Filter = fun(Action, Compare, Domain) ->
        ok = logger:set_handler_config(?MODULE, filters, [
            {d, {fun logger_filters:domain/2, {Action, Compare, Domain}}}
        ])
    end,
    Filter(stop, not_equal, [my, own]),
    true = say(Coop, {notice, <<"dropped">>, none}),
    true = say(Coop, {notice, <<"mine">>, {domain, [my, own]}}),
    {notice, #{domain := [my, own]}, _} = event(),
    Filter(stop, undefined, []),
    true = say(Coop, {notice, <<"dropped">>, none}),
    true = say(Coop, {notice, <<"mine">>, {domain, [my, own]}}),
    {notice, #{domain := [my, own]}, _} = event(),
    %% what would break the filter is no domain
    [
        true = say(Coop, {notice, <<"dropped">>, {domain, D}})
     || D <- [x, [1], [esp | crashes], {esp}, <<"esp">>]
    ],
    true = say(Coop, {notice, <<"mine">>, {domain, [my, own]}}),
    {notice, #{domain := [my, own]}, _} = event(),
    Filter(stop, sub, [my]),
    [
        begin
            true = say(Coop, {notice, <<"shown">>, {domain, D}}),
            {notice, Meta, _} = event(),
            false = is_map_key(domain, Meta)
        end
     || D <- [x, [1], [esp | crashes], {esp}, <<"esp">>]
    ],
    {ok, #{filters := [{d, _}]}} = logger:get_handler_config(?MODULE),
    ok = logger:set_handler_config(?MODULE, filters, []),
    true = say(Coop, {notice, <<"found">>, {k, 17}}),
    {notice, #{k := 17}, _} = event(),
    ok = coop:stop(Coop).

%% What a shell shows whose owner has configured nothing.
the_default_handler_lets_events_by(_) ->
    {_, Node} = Peer = esp_test_c_node:start_peer(?MODULE),
    {ok, Default} = rpc:call(Node, logger, get_handler_config, [default]),
    esp_test_c_node:stop_peer(Peer),
    #{filters := [_ | _] = Filters, filter_default := stop} = Default,
    ok = logger:set_handler_config(?MODULE, filter_default, stop),
    ok = logger:set_handler_config(?MODULE, filters, Filters),
    Coop = sayer(),
    true = say(Coop, {notice, <<"seen">>, none}),
    {notice, _, _} = event(),
    ok = coop:stop(Coop).

the_loggers_level_is_obeyed_at_the_source(_) ->
    Coop = sayer(),
    Proxy = whereis(logger_proxy),
    [
        begin
            ok = logger:set_primary_config(level, Primary),
            told(Primary, []),
            1 = erlang:trace(Proxy, true, ['receive']),
            Known = lists:reverse(Levels),
            [Expected = say(Coop, {L, <<"x">>, none}) || L <- Known, Expected <- [lists:member(L, Let)]],
            Ref = erlang:trace_delivered(Proxy),
            receive
                {trace_delivered, Proxy, Ref} -> ok
            end,
            1 = erlang:trace(Proxy, false, ['receive']),
            Came = [L || {trace, _, 'receive', {log, L, <<"x">>, _}} <- esp_test_lib:mailbox()],
            {Primary, Let} = {Primary, lists:reverse(Came)}
        end
     || Levels <- [[emergency, alert, critical, error, warning, notice, info, debug]],
        {Primary, Let} <- [
            {all, Levels},
            {debug, Levels},
            {warning, [emergency, alert, critical, error, warning]},
            {emergency, [emergency]},
            {none, []}
        ]
    ],
    ok = coop:stop(Coop).

a_modules_level_counts_for_its_plugin(_) ->
    Coop = sayer(),
    Other = talker(#{}),
    ok = logger:set_primary_config(level, error),
    ok = logger:set_module_level(crashes, debug),
    told(error, [{crashes, debug}]),
    true = say(Coop, {debug, <<"let by">>, none}),
    {debug, _, Text} = event(),
    has(Text, "let by"),
    ok = coop:relay_data(Other, {log, <<"not by another's level">>}),
    ok = coop:flush(Other, 10_000),
    ok = logger:set_module_level(crashes, none),
    told(error, [{crashes, none}]),
    false = say(Coop, {emergency, <<"dropped">>, none}),
    ok = logger:unset_module_level(crashes),
    told(error, []),
    true = say(Coop, {error, <<"the last">>, none}),
    {error, _, Last} = event(),
    has(Last, "the last"),
    ok = coop:stop(Coop),
    ok = coop:stop(Other).

%% Events of processes that another VM leads go there.
levels_of_each_vm_are_its_own(_) ->
    Coop = sayer(),
    {_, Peer} = P = esp_test_c_node:start_peer(logs),
    ok = logger:set_primary_config(level, error),
    told(error, []),
    #{nodes := [{say, Node}]} = coop:info(Coop),
    false = say(Coop, {notice, <<"here">>, none}),
    true = erpc:call(Peer, fun() -> group_leader(whereis(init), Node) end),
    %% one that has told nothing gets all, and decides itself
    esp_test_lib:eventually(led_from_there, fun() -> say(Coop, {debug, <<"there">>, none}) end),
    {ok, _} = erpc:call(Peer, application, ensure_all_started, [erlangsp]),
    ok = erpc:call(Peer, logger, set_primary_config, [level, warning]),
    {ok, _} = erpc:call(Peer, esp_node, await, [esp_node:node(?NAME), 10_000]),
    esp_test_lib:eventually(told_from_there, fun() -> not say(Coop, {notice, <<"there">>, none}) end),
    true = say(Coop, {warning, <<"there">>, none}),
    true = group_leader(group_leader(), Node),
    ok = coop:stop(Coop),
    esp_test_c_node:stop_peer(P).

a_spawned_function_that_fails_has_a_crash_report(_) ->
    P = spawn(esp_node:node(?NAME), no, such, [1]),
    {error, #{pid := P}, Text} = event(),
    has(Text, "crasher:"),
    has(Text, "initial call: no:such/1"),
    has(Text, "exception error: undefined function no:such/1").

orderly_ends_are_not_logged(_) ->
    N = esp_node:node(?NAME),
    [
        begin
            {_, R} = spawn_monitor(N, erlang, exit, [Reason]),
            Reason = esp_test_lib:down(R)
        end
     || Reason <- [normal, shutdown, {shutdown, x}, another]
    ],
    P = spawn(N, no, such, [1]),
    {error, #{pid := P}, _} = event().

any_bytes_can_be_logged(_) ->
    Coop = talker(#{}),
    Bytes = list_to_binary(lists:seq(0, 255)),
    ok = coop:relay_data(Coop, {log, Bytes}),
    {notice, _, Text} = event(),
    has(Text, [255]),
    ok = coop:relay_data(Coop, {log, binary:copy(<<"x">>, 1 bsl 20)}),
    {notice, _, Cut} = event(),
    true = length(Cut) < 100_000,
    ok = coop:stop(Coop).

a_flood_is_cut_and_said_to_be(_) ->
    Coop = talker(#{}),
    [ok = coop:relay_data(Coop, {log, integer_to_binary(I)}) || I <- lists:seq(1, 5000)],
    ok = coop:flush(Coop, 10_000),
    %% one more once there is room again: it brings the count
    esp_test_lib:eventually(said_to_be_left_out, fun() ->
        ok = coop:relay_data(Coop, {log, <<"and one more">>}),
        ok = coop:flush(Coop, 10_000),
        lists:any(
            fun({event, _, _, Text, _}) -> string:find(Text, "were left out") =/= nomatch end,
            esp_test_lib:mailbox()
        )
    end),
    ok = coop:stop(Coop).

events_sent_to_the_c_node_do_not_come_back(_) ->
    Proxy = {logger_proxy, esp_node:node(?NAME)},
    Meta = #{pid => erpc:call(esp_node:node(?NAME), erlang, whereis, [rex]), time => 0},
    Proxy ! {log, error, "~p", [x], Meta},
    Proxy ! {log, info, "text", Meta},
    %% handled in order: this answer comes behind them
    {status, _, _, _} = sys:get_status(Proxy),
    [] = esp_test_lib:mailbox().
