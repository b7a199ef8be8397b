%% dbg from an ordinary shell, on a C-node and, with the same script, on an Erlang
%% node: what it prints of the one it would print of the other. A peer VM is the
%% shell; a second one is traced beside the C-node.
-module(trace_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([init_per_testcase/2, end_per_testcase/2]).
%% on other nodes
-export([forward/2, deed/2, twice/2, beam_process/2, suspends/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, down/1, pid/2, stop_linked/1]).

-define(C_NODE, t_trace).
-define(LIMIT, 20_000).

suite() ->
    [{timetrap, {seconds, 180}}].

all() ->
    [
        messages_are_seen_when_they_come_and_go,
        a_datum_between_native_nodes_is_a_message,
        a_call_of_a_task_is_as_of_one_in_erlang,
        results_are_in_what_a_task_returns,
        exceptions_are_seen_as_such,
        match_specifications_choose_and_add,
        events_of_messages_are_chosen_by_tpe,
        silent_calls_are_not_told,
        spawn_link_register_and_exit_are_told_as_by_a_beam,
        who_is_spawned_or_linked_inherits,
        running_is_told_in_pairs,
        times_are_those_of_the_flags,
        all_processes_are_traced_but_those_that_trace,
        new_processes_are_traced_from_their_start,
        dbg_shows_what_is_traced_and_stops,
        a_second_tracer_is_refused,
        the_end_of_the_shell_ends_the_trace,
        the_end_of_the_relay_ends_the_trace,
        a_slow_tracer_costs_events_and_no_memory,
        a_handler_runs_on_the_node_of_its_fun,
        a_handler_that_fails_ends_its_trace,
        a_trace_port_is_read_by_a_trace_client,
        a_trace_port_that_nobody_reads_drops,
        ttb_traces_as_observers_tab_does,
        sessions_are_separate,
        bad_requests_get_what_a_beam_answers,
        match_specifications_mean_what_they_mean_there,
        odd_specifications_are_refused
    ].

init_per_suite(Config) ->
    CNode = esp_test_c_node:start_measured(?C_NODE),
    Shell = {_, ShellNode} = esp_test_c_node:start_peer(trace_shell),
    Beam = {_, BeamNode} = esp_test_c_node:start_peer(trace_beam),
    pong = rpc:call(ShellNode, net_adm, ping, [c_node()]),
    %% a tracer that waits for the code server looks as if it had nothing to do
    [{module, ?MODULE} = rpc:call(N, code, ensure_loaded, [?MODULE]) || N <- [ShellNode, BeamNode]],
    [{started, CNode}, {peers, [Shell, Beam]}, {shell, ShellNode}, {beam, BeamNode} | Config].

end_per_suite(Config) ->
    [esp_test_c_node:stop_peer(P) || P <- proplists:get_value(peers, Config)],
    esp_test_c_node:stop(proplists:get_value(started, Config)).

init_per_testcase(_, Config) ->
    process_flag(trap_exit, true),
    [{before, esp_test_c_node:processes(?C_NODE)} | Config].

%% Nothing of a trace outlives it.
end_per_testcase(_, Config) ->
    _ = dbg(Config, stop, []),
    esp_test_c_node:settled(?C_NODE, proplists:get_value(before, Config)),
    [] = ask(dbg, get_info, []),
    {flags, []} = ask(erlang, trace_info, [new, flags]),
    ok.

c_node() -> esp_node:node(?C_NODE).
ask(Module, Function, Args) -> rpc:call(c_node(), Module, Function, Args).
dbg(Config, Function, Args) -> rpc:call(proplists:get_value(shell, Config), dbg, Function, Args).

%% dbg:tracer() whose events come here.
start_dbg(Config) -> start_dbg(Config, c_node()).

start_dbg(Config, Node) ->
    _ = dbg(Config, stop, []),
    {ok, _} = dbg(Config, tracer, [process, {fun ?MODULE:forward/2, self()}]),
    {ok, Node} = dbg(Config, n, [Node]),
    Shell = proplists:get_value(shell, Config),
    {ok, Tracer} = dbg(Config, get_tracer, [Shell]),
    put(tracer, Tracer),
    %% the shell itself is not traced
    ok = dbg(Config, cn, [Shell]).

%% What dbg of OTP 27 and later does is in a session of its own.
told_by_dbg(Expected, Args) ->
    case code:ensure_loaded(trace) =:= {module, trace} of
        true -> ok;
        false -> Expected = ask(erlang, trace_info, Args)
    end.

forward(Event, To) ->
    To ! {event, Event},
    To.

p(Config, Item, Flags) ->
    {ok, [{matched, _, N}]} = dbg(Config, p, [Item, Flags]),
    N.

%% All events so far, once those of what has been done are there.
events(Config) -> events(Config, c_node()).

events(Config, Node) ->
    Shell = proplists:get_value(shell, Config),
    {ok, Relay} = dbg(Config, get_tracer, [Node]),
    %% a BEAM fails once it has waited: what it would flush is no port
    _ = rpc:call(Node, dbg, deliver_and_flush, [Relay]),
    %% an answer to the shell comes behind them, by the same connection
    Node = rpc:call(Shell, rpc, call, [Node, erlang, node, []]),
    %% what a relay on a BEAM has got is at the tracer after this, and then here
    [at_rest(N, P) || {N, P} <- [{Node, Relay}, {Shell, get(tracer)}]],
    collected().

at_rest(Node, Pid) ->
    eventually({at_rest, Pid}, fun() ->
        case rpc:call(Node, erlang, process_info, [Pid, [message_queue_len, status]]) of
            [{message_queue_len, 0}, {status, waiting}] -> true;
            Other -> Other
        end
    end).

collected() ->
    receive
        {event, Event} -> [Event | collected()]
    after 0 -> []
    end.

event(Matches) ->
    receive
        {event, Event} ->
            case Matches(Event) of
                true -> Event;
                false -> event(Matches)
            end
    after ?LIMIT -> ct:fail(waited_in_vain_for_an_event)
    end.

start(Nodes) when is_list(Nodes) -> start(coop_flow:pipeline(Nodes), #{}).

start(Template, Options) ->
    {ok, Coop} = coop:start_link(
        Template, maps:merge(#{node => ?C_NODE, receiver => self()}, Options)
    ),
    Coop.

deeds(Name) -> coop:native(Name, deeds, deed, #{}).
twice(Name) -> coop:native(Name, deeds, twice, #{}).

result() ->
    receive
        R when element(1, R) =/= event -> R;
        R when not is_tuple(R) -> R
    after ?LIMIT -> ct:fail(no_result)
    end.

%%% The same on an Erlang node

%% A process that does what it is sent, as a co-op node does with data.
beam_process(To, State) ->
    receive
        {'$system', stop} -> ok;
        Datum ->
            {State2, Result} = ?MODULE:deed(State, Datum),
            To ! Result,
            beam_process(To, State2)
    end.

deed(#{done := N}, Datum) -> {#{done => N + 1}, deed(Datum)}.

deed({spawn, To}) -> spawn(?MODULE, child, [To]);
deed({spawn_link, To}) -> spawn_link(?MODULE, child, [To]);
deed({link, Pid}) -> link(Pid), {link, Pid};
deed({unlink, Pid}) -> unlink(Pid), {unlink, Pid};
deed({register, Name}) -> register(Name, self()), {register, Name};
deed({send, To, Message}) -> To ! Message, {send, To, Message};
deed({exit, Reason}) -> exit(Reason);
deed({error, _}) -> error(error);
deed(Other) -> Other.

child(To) ->
    To ! {child, self()},
    receive _ -> ok end.

twice(undefined, X) when is_integer(X) -> {undefined, 2 * X}.

%% A script on both: Fun(Send, Pid, Trace) with Send to do a deed, and the events
%% of Pid, its names in the place of pids, are alike.
alike(Config, Flags, Fun) ->
    Coop = start([deeds(a)]),
    Ours = script(Config, c_node(), pid(Coop, a), Flags, Fun),
    exit(Coop, kill),
    gone(Coop),
    %% its exit may be on its way, have come, or have been a case's result
    {links, Links} = process_info(self(), links),
    IsToCome = lists:member(Coop, Links),
    receive {'EXIT', Coop, _} -> ok
    after if IsToCome -> ?LIMIT; true -> 0 end -> false = IsToCome
    end,
    Beam = proplists:get_value(beam, Config),
    Process = spawn(Beam, ?MODULE, beam_process, [self(), #{done => 0}]),
    Theirs = script(Config, Beam, Process, Flags, Fun),
    exit(Process, kill),
    ct:pal("ours ~p~ntheirs ~p", [Ours, Theirs]),
    {Ours, Theirs}.

script(Config, Node, Pid, Flags, Fun) ->
    start_dbg(Config, Node),
    1 = p(Config, Pid, Flags),
    Do = fun(Deed) ->
        Pid ! Deed,
        result()
    end,
    Names = Fun(Do, Pid),
    [renamed(E, [{Pid, traced} | Names]) || E <- events(Config, Node)].

renamed(Pid, Names) when is_pid(Pid) ->
    proplists:get_value(Pid, Names, some_pid);
renamed(T, Names) when is_tuple(T) ->
    list_to_tuple([renamed(E, Names) || E <- tuple_to_list(T)]);
renamed([H | T], Names) ->
    [renamed(H, Names) | renamed(T, Names)];
renamed(Other, _) ->
    Other.

%%% Messages

messages_are_seen_when_they_come_and_go(Config) ->
    Me = self(),
    {Ours, Theirs} = alike(Config, [m], fun(Do, _) ->
        {send, Me, hello} = begin
            self() ! nothing,
            nothing = result(),
            D = Do({send, Me, hello}),
            case D of
                hello -> result();
                _ -> D
            end
        end,
        [{Me, me}]
    end),
    %% which the process first sends, and then its result
    [{trace, traced, 'receive', {send, me, hello}},
     {trace, traced, send, hello, me},
     {trace, traced, send, {send, me, hello}, me}] = Theirs,
    Theirs = Ours.

a_datum_between_native_nodes_is_a_message(Config) ->
    Coop = start([twice(a), twice(b)]),
    A = pid(Coop, a),
    B = pid(Coop, b),
    Head = coop:head(Coop),
    start_dbg(Config),
    [1 = p(Config, P, m) || P <- [A, B]],
    ok = coop:relay_data(Coop, 1),
    4 = result(),
    Me = self(),
    Events = events(Config),
    {trace, A, 'receive', 1} = hd([E || E <- Events, element(2, E) =:= A]),
    true = lists:member({trace, A, send, 2, B}, Events),
    true = lists:member({trace, B, 'receive', 2}, Events),
    true = lists:member({trace, B, send, 4, Me}, Events),
    %% and a barrier is one
    ok = coop:flush(Coop, ?LIMIT),
    [{'$coop', barrier, _, {Me, Ref}}] =
        [M || {trace, P, 'receive', M = {'$coop', barrier, _, _}} <- events(Config), P =:= B],
    true = is_reference(Ref) orelse is_list(Ref) orelse is_tuple(Ref),
    true = is_pid(Head),
    stop_linked(Coop).

%%% Calls

a_call_of_a_task_is_as_of_one_in_erlang(Config) ->
    Ms = [{'_', [], [{return_trace}]}],
    Coop = start([deeds(a)]),
    Pid = pid(Coop, a),
    start_dbg(Config),
    1 = p(Config, Pid, c),
    {ok, [{matched, _, 1}, {saved, _}]} = dbg(Config, tpl, [deeds, deed, 2, Ms]),
    {ok, [{matched, _, 3}, {saved, _}]} = dbg(Config, tpl, [deeds, Ms]),
    {ok, [{matched, _, 0}, {saved, _}]} = dbg(Config, tpl, [deeds, deed, 3, Ms]),
    {ok, [{matched, _, 0}, {saved, _}]} = dbg(Config, tp, [no_such_module, Ms]),
    ok = coop:relay_data(Coop, x),
    x = result(),
    Ours = events(Config),
    stop_linked(Coop),
    Beam = proplists:get_value(beam, Config),
    Process = spawn(Beam, ?MODULE, beam_process, [self(), #{done => 0}]),
    start_dbg(Config, Beam),
    1 = p(Config, Process, c),
    {ok, [{matched, _, 1}, {saved, _}]} = dbg(Config, tpl, [?MODULE, deed, 2, Ms]),
    Process ! x,
    x = result(),
    Theirs = events(Config, Beam),
    exit(Process, kill),
    Same = fun(Events, P, M) ->
        [{trace, P, call, {M, deed, [#{done := 0}, x]}},
         {trace, P, return_from, {M, deed, 2}, {#{done := 1}, x}}] = Events
    end,
    Same(Theirs, Process, ?MODULE),
    Same(Ours, Pid, deeds).

results_are_in_what_a_task_returns(Config) ->
    Coop = start(
        coop_flow:graph(
            [coop:native(a, deeds, several, #{}), twice(next)], [{a, next}]
        ), #{}
    ),
    Pid = pid(Coop, a),
    start_dbg(Config),
    1 = p(Config, Pid, c),
    {ok, _} = dbg(Config, tp, [deeds, several, [{'_', [], [{return_trace}]}]]),
    ok = coop:relay_batch(Coop, [0, 1, 3, -5]),
    ok = coop:flush(Coop, ?LIMIT),
    [_, {S, none}, _, {S, 0}, _, {S, many, [0, 1, 2]}, _, {S, to, [{next, 5}]}] =
        [element(5, list_to_tuple(tuple_to_list(E) ++ [none])) || E <- events(Config)],
    {opaque, _} = S,
    stop_linked(Coop).

exceptions_are_seen_as_such(Config) ->
    Spec = [{'_', [], [{exception_trace}]}],
    Outcome = fun(Node, Datum) ->
        Coop = start([Node]),
        Pid = pid(Coop, a),
        start_dbg(Config),
        1 = p(Config, Pid, c),
        {ok, _} = dbg(Config, tp, ['_', Spec]),
        ok = coop:relay_data(Coop, Datum),
        Event = event(fun(E) -> element(3, E) =/= call end),
        case element(3, Event) of
            exception_from -> receive {'EXIT', Coop, _} -> ok after ?LIMIT -> ct:fail(lives) end;
            return_from -> stop_linked(Coop)
        end,
        _ = dbg(Config, stop, []),
        {trace, Pid, What, MFA, Value} = Event,
        {What, MFA, Value}
    end,
    Throws = coop:native(a, throws, act, #{}),
    {return_from, {throws, act, 2}, {undefined, x}} = Outcome(Throws, x),
    {exception_from, {throws, act, 2}, {exit, why}} = Outcome(Throws, {exit, why}),
    {exception_from, {throws, act, 2}, {error, {cpp_exception, <<"std::runtime_error">>, <<"no">>}}} =
        Outcome(Throws, {runtime_error, <<"no">>}),
    {exception_from, {deeds, twice, 2}, {error, function_clause}} = Outcome(twice(a), no_number).

match_specifications_choose_and_add(Config) ->
    Coop = start([twice(a)]),
    Pid = pid(Coop, a),
    start_dbg(Config),
    1 = p(Config, Pid, [c, arity]),
    {ok, _} = dbg(Config, tpl, [
        deeds, twice, [{['_', '$1'], [{'>', '$1', 5}], [{message, {{big, '$1', {self}, {caller}}}}]},
                       {['_', 3], [], []},
                       {['_', 4], [], [{message, false}]}]
    ]),
    ok = coop:relay_batch(Coop, [1, 3, 4, 7]),
    [2, 6, 8, 14] = [result() || _ <- lists:seq(1, 4)],
    [{trace, Pid, call, {deeds, twice, 2}},
     {trace, Pid, call, {deeds, twice, 2}, {big, 7, Pid, undefined}}] = events(Config),
    %% a pattern is taken back where it was set, and nowhere else
    {ok, [{matched, _, 1}]} = dbg(Config, ctpg, [deeds, twice, 2]),
    told_by_dbg({traced, local}, [{deeds, twice, 2}, traced]),
    {ok, [{matched, _, 1}]} = dbg(Config, ctp, [deeds, twice, 2]),
    {traced, false} = ask(erlang, trace_info, [{deeds, twice, 2}, traced]),
    ok = coop:relay_data(Coop, 7),
    14 = result(),
    [] = events(Config),
    stop_linked(Coop).

events_of_messages_are_chosen_by_tpe(Config) ->
    Me = self(),
    Coop = start([deeds(a)]),
    Pid = pid(Coop, a),
    start_dbg(Config),
    1 = p(Config, Pid, m),
    {ok, [{matched, _, 1}, {saved, _}]} =
        dbg(Config, tpe, [send, [{[Me, {send, '_', '$1'}], [], [{message, '$1'}]}]]),
    {ok, [{matched, _, 1}, {saved, _}]} =
        dbg(Config, tpe, ['receive', [{['$1', '$2', '_'], [{'=:=', '$1', {node, '$2'}}, {'=:=', '$1', node()}],
                                       []}]]),
    Pid ! {send, Me, hello},
    hello = result(),
    {send, Me, hello} = result(),
    [{trace, Pid, 'receive', {send, Me, hello}},
     {trace, Pid, send, {send, Me, hello}, Me, hello}] = events(Config),
    [{ok, [{matched, _, 1}]} = dbg(Config, ctpe, [E]) || E <- [send, 'receive']],
    Pid ! x,
    x = result(),
    [{trace, Pid, 'receive', x}, {trace, Pid, send, x, Me}] = events(Config),
    stop_linked(Coop).

silent_calls_are_not_told(Config) ->
    Coop = start([twice(a)]),
    Pid = pid(Coop, a),
    start_dbg(Config),
    1 = p(Config, Pid, [c, silent]),
    {ok, _} = dbg(Config, tpl, [
        deeds, twice, [{['_', 1], [], [{silent, false}]}, {['_', 2], [], [{silent, true}]}, {'_', [], []}]
    ]),
    ok = coop:relay_batch(Coop, [5, 1, 6, 2, 7]),
    [10, 2, 12, 4, 14] = [result() || _ <- lists:seq(1, 5)],
    [1, 6] = [D || {trace, _, call, {deeds, twice, [_, D]}} <- events(Config)],
    stop_linked(Coop).

%%% Processes

spawn_link_register_and_exit_are_told_as_by_a_beam(Config) ->
    Me = self(),
    {Ours, Theirs} = alike(Config, [procs], fun(Do, Pid) ->
        Child = deed_and_child(Do, {spawn, Me}),
        Linked = deed_and_child(Do, {spawn_link, Me}),
        {link, Child} = Do({link, Child}),
        {link, Child} = Do({link, Child}),
        {unlink, Child} = Do({unlink, Child}),
        link(Pid),
        unlink(Pid),
        {register, t_trace_name} = Do({register, t_trace_name}),
        Linked ! stop,
        Child ! stop,
        [ok = gone(P) || P <- [Child, Linked]],
        Ref = monitor(process, Pid),
        Pid ! {exit, done},
        done = down(Ref),
        _ = [receive {'EXIT', P, _} when is_pid(P) -> ok after 0 -> ok end || _ <- [1, 2]],
        [{Me, me}, {Child, child}, {Linked, linked}]
    end),
    Plain = fun(Events) ->
        [case E of
             {trace, P, spawn, C, _} -> {trace, P, spawn, C};
             _ -> E
         end || E <- Events]
    end,
    ct:pal("~p~n~p", [Plain(Ours), Plain(Theirs)]),
    true = Plain(Theirs) =:= Plain(Ours).

deed_and_child(Do, Deed) ->
    Child =
        case Do(Deed) of
            {child, C} -> C;
            P when is_pid(P) -> P
        end,
    Child =
        case result() of
            {child, C2} -> C2;
            P2 -> P2
        end,
    Child.

gone(Pid) ->
    Ref = monitor(process, Pid),
    _ = down(Ref),
    ok.

who_is_spawned_or_linked_inherits(Config) ->
    Me = self(),
    Children = fun(Flags) ->
        Coop = start([deeds(a)]),
        Pid = pid(Coop, a),
        start_dbg(Config),
        1 = p(Config, Pid, Flags),
        Do = fun(Deed) -> Pid ! Deed, result() end,
        First = deed_and_child(Do, {spawn_link, Me}),
        Second = deed_and_child(Do, {spawn_link, Me}),
        FlagsOf = fun(P) ->
            {flags, Fs} = ask(erlang, trace_info, [P, flags]),
            lists:sort(Fs)
        end,
        Result = {FlagsOf(Pid), FlagsOf(First), FlagsOf(Second)},
        Told = lists:usort([P || {trace, P, _, _, _} <- events(Config)]),
        [C ! stop || C <- [First, Second]],
        [gone(C) || C <- [First, Second]],
        stop_linked(Coop),
        {Result, length(Told)}
    end,
    {{[procs, set_on_spawn], [procs, set_on_spawn], [procs, set_on_spawn]}, _} = Children([p, sos]),
    {{[procs], [procs], []}, _} = Children([p, sofs]),
    {{[procs, set_on_link], [procs, set_on_link], [procs, set_on_link]}, _} = Children([p, sol]),
    {{[procs], [procs], []}, _} = Children([p, sofl]),
    {{[procs], [], []}, _} = Children([p]).

running_is_told_in_pairs(Config) ->
    Coop = start([coop:native(a, talks, talk, #{})]),
    Pid = pid(Coop, a),
    start_dbg(Config),
    1 = p(Config, Pid, [running]),
    ok = coop:relay_data(Coop, {wait, self()}),
    {waiting, Pid} = result(),
    Pid ! {go, on},
    on = result(),
    eventually(at_rest, fun() ->
        {status, waiting} =:= ask(erlang, process_info, [Pid, status])
    end),
    Events = [{What, MFA} || {trace, P, What, MFA} <- events(Config), P =:= Pid],
    true = length(Events) >= 4,
    %% in, out, in, out ...
    [{What, {talks, talk, 2}} = E || {E, What} <- lists:zip(Events, alternating(length(Events)))],
    stop_linked(Coop).

alternating(N) -> [case I rem 2 of 1 -> in; 0 -> out end || I <- lists:seq(1, N)].

times_are_those_of_the_flags(Config) ->
    Coop = start([twice(a)]),
    Pid = pid(Coop, a),
    Stamps = fun(Flags) ->
        start_dbg(Config),
        1 = p(Config, Pid, [r | Flags]),
        ok = coop:relay_batch(Coop, [1, 2]),
        [2, 4] = [result(), result()],
        [T || {trace_ts, P, 'receive', _, T} <- events(Config), P =:= Pid]
    end,
    Clock = fun({M, S, Us}) -> (M * 1_000_000 + S) * 1_000_000 + Us end,
    [T1, T2] = [Clock(T) || T <- Stamps([timestamp, monotonic_timestamp])],
    true = T1 =< T2,
    true = abs(T1 - Clock(erlang:timestamp())) < 30_000_000,
    [M1, M2] = Stamps([monotonic_timestamp]),
    true = is_integer(M1) andalso M1 =< M2,
    [{N1, U1}, {N2, U2}] = Stamps([strict_monotonic_timestamp]),
    true = N1 =< N2 andalso U1 < U2,
    stop_linked(Coop).

all_processes_are_traced_but_those_that_trace(Config) ->
    Coop = start([twice(a)]),
    start_dbg(Config),
    N = p(Config, all, [m, procs, running]),
    true = N >= 4,
    Info = ask(dbg, get_info, []),
    Traced = [P || {P, _, _} <- Info],
    [true = lists:member(P, Traced) || P <- esp_test_lib:pids(Coop)],
    {ok, Relay} = dbg(Config, get_tracer, [c_node()]),
    false = lists:member(Relay, Traced),
    ok = coop:relay_data(Coop, 1),
    2 = result(),
    [_ | _] = events(Config),
    %% nothing goes on by itself
    _ = events(Config),
    eventually(silence, fun() -> events(Config) =:= [] end),
    stop_linked(Coop),
    N2 = p(Config, all, clear),
    true = N2 > 0,
    [] = ask(dbg, get_info, []).

new_processes_are_traced_from_their_start(Config) ->
    start_dbg(Config),
    0 = p(Config, new, [p, c]),
    {ok, _} = dbg(Config, tpl, [deeds, [{'_', [], []}]]),
    Coop = start([twice(a)]),
    Pid = pid(Coop, a),
    {flags, [call, procs]} = ask(erlang, trace_info, [Pid, flags]),
    ok = coop:relay_data(Coop, 1),
    2 = result(),
    Of = [E || E <- events(Config), element(2, E) =:= Pid],
    {trace, Pid, spawned, _, {deeds, twice, 2}} = hd(Of),
    true = lists:member({trace, Pid, call, {deeds, twice, [undefined, 1]}}, Of),
    stop_linked(Coop),
    Ends = [E || E <- events(Config), element(2, E) =:= Pid],
    [{trace, Pid, exit, _}] = [E || E <- Ends, element(3, E) =:= exit],
    0 = p(Config, new, clear).

%%% dbg itself

dbg_shows_what_is_traced_and_stops(Config) ->
    Coop = start([twice(a)]),
    Pid = pid(Coop, a),
    start_dbg(Config),
    1 = p(Config, Pid, [m, c, timestamp]),
    [{Pid, {deeds, twice, 2}, Flags}] = ask(dbg, get_info, []),
    [call, 'receive', send, timestamp] = lists:sort(Flags),
    Shown = rpc:call(proplists:get_value(shell, Config), ?MODULE, shown, []),
    true = string:find(Shown, "{deeds,twice,2}") =/= nomatch,
    true = string:find(Shown, "s | r | c | timestamp") =/= nomatch,
    {ok, _} = dbg(Config, tpl, [deeds, []]),
    ok = dbg(Config, cn, [c_node()]),
    %% as on a BEAM: dbg has forgotten it, the trace is there
    told_by_dbg({match_spec, []}, [{deeds, twice, 2}, match_spec]),
    _ = dbg(Config, ctp, []),
    _ = ask(erlang, trace_pattern, [{'_', '_', '_'}, false, [local]]),
    ok = dbg(Config, stop, []),
    eventually(not_traced, fun() -> ask(dbg, get_info, []) =:= [] end),
    {match_spec, false} = ask(erlang, trace_info, [{deeds, twice, 2}, match_spec]),
    stop_linked(Coop).

%% What dbg:i() prints.
shown() ->
    Device = spawn_link(fun() -> device([]) end),
    Dbg = whereis(dbg),
    {group_leader, Leader} = process_info(Dbg, group_leader),
    group_leader(Device, Dbg),
    _ = dbg:i(),
    group_leader(Leader, Dbg),
    Device ! {text, self()},
    receive
        {text, Text} -> lists:flatten(Text)
    end.

device(Text) ->
    receive
        {io_request, From, As, {put_chars, _, M, F, Args}} ->
            From ! {io_reply, As, ok},
            device([Text, unicode:characters_to_list(apply(M, F, Args))]);
        {io_request, From, As, {put_chars, _, Chars}} ->
            From ! {io_reply, As, ok},
            device([Text, unicode:characters_to_list(Chars)]);
        {io_request, From, As, _} ->
            From ! {io_reply, As, {error, request}},
            device(Text);
        {text, To} ->
            To ! {text, Text}
    end.

a_second_tracer_is_refused(Config) ->
    Coop = start([twice(a)]),
    Pid = pid(Coop, a),
    First = relay(self()),
    1 = ask(erlang, trace, [Pid, true, [{tracer, First}, send, 'receive']]),
    Relay = relay(self()),
    {badrpc, {'EXIT', {badarg, _}}} = ask(erlang, trace, [Pid, true, [{tracer, Relay}, call]]),
    {badrpc, {'EXIT', {badarg, _}}} = ask(erlang, trace, [Relay, true, [{tracer, Relay}, call]]),
    %% and of all it gets those that nobody has
    Others = ask(erlang, trace, [existing, true, [{tracer, Relay}, procs]]),
    true = Others > 0,
    {tracer, First} = ask(erlang, trace_info, [Pid, tracer]),
    {tracer, Relay} = ask(erlang, trace_info, [coop:head(Coop), tracer]),
    [begin exit(R, done), receive {'EXIT', R, _} -> ok end end || R <- [Relay, First]],
    [
        eventually(free, fun() -> {tracer, []} =:= ask(erlang, trace_info, [P, tracer]) end)
     || P <- [coop:head(Coop), Pid]
    ],
    stop_linked(Coop).

relay(To) ->
    Relay = spawn_link(c_node(), dbg, do_relay, [self(), To]),
    receive
        {started, Started} when is_pid(Started) -> Started
    after ?LIMIT -> ct:fail(dbg_would_hang)
    end,
    Relay.

the_end_of_the_shell_ends_the_trace(Config) ->
    Coop = start([twice(a)]),
    {Peer, Node} = esp_test_c_node:start_peer(trace_dies),
    {ok, _} = rpc:call(Node, dbg, tracer, [process, {fun ?MODULE:forward/2, self()}]),
    {ok, _} = rpc:call(Node, dbg, n, [c_node()]),
    {ok, _} = rpc:call(Node, dbg, p, [all, [m, sos]]),
    [_ | _] = ask(dbg, get_info, []),
    peer:stop(Peer),
    eventually(not_traced, fun() -> ask(dbg, get_info, []) =:= [] end),
    {flags, []} = ask(erlang, trace_info, [new, flags]),
    ok = coop:relay_data(Coop, 1),
    _ = collected(),
    stop_linked(Coop),
    _ = collected(),
    _ = Config.

the_end_of_the_relay_ends_the_trace(Config) ->
    Coop = start([twice(a)]),
    start_dbg(Config),
    _ = p(Config, all, [m]),
    {ok, Relay} = dbg(Config, get_tracer, [c_node()]),
    exit(Relay, kill),
    eventually(not_traced, fun() -> ask(dbg, get_info, []) =:= [] end),
    ok = coop:relay_data(Coop, 1),
    2 = result(),
    stop_linked(Coop).

%% The tracer stands still while a million messages go by.
a_slow_tracer_costs_events_and_no_memory(Config) ->
    Shell = proplists:get_value(shell, Config),
    Coop = start(coop_flow:pipeline([twice(a), twice(b)]), #{receiver => none}),
    start_dbg(Config),
    1 = p(Config, pid(Coop, b), [m]),
    Tracer = get(tracer),
    true = erpc:call(Shell, ?MODULE, suspends, [Tracer]),
    Relay = fun(N) ->
        [ok = coop:relay_batch(Coop, lists:seq(1, 1000)) || _ <- lists:seq(1, N)],
        ok = coop:flush(Coop, 120_000)
    end,
    %% what is kept at most is there by then
    Relay(100),
    Before = ask(erlang, memory, [total]),
    Relay(900),
    {message_queue_len, Waiting} = rpc:call(Shell, erlang, process_info, [Tracer, message_queue_len]),
    true = Waiting < 25_000,
    After = ask(erlang, memory, [total]),
    {true, _} = {After - Before < 16_000_000, {grown_by, After - Before}},
    {suspender, Shell} ! resume,
    %% each is told, or counted; barriers are messages, too
    {Told, Dropped} = counted(0, 0, 1_000_000),
    {true, _} = {Dropped > 900_000 andalso Told + Dropped < 1_000_020, {Told, Dropped}},
    _ = events(Config),
    %% and then nothing is lost
    ok = coop:relay_data(Coop, 21),
    {trace, _, 'receive', 42} = event(fun(_) -> true end),
    stop_linked(Coop).

counted(Told, Dropped, N) when Told + Dropped >= N -> {Told, Dropped};
counted(Told, Dropped, N) ->
    receive
        {event, {drop, More}} -> counted(Told, Dropped + More, N);
        {event, _} -> counted(Told + 1, Dropped, N)
    after ?LIMIT -> ct:fail({told, Told, dropped, Dropped})
    end.

%% A process is suspended as long as the one that has done it lives.
suspends(Pid) ->
    Self = self(),
    spawn(fun() ->
        register(suspender, self()),
        Self ! {suspended, erlang:suspend_process(Pid)},
        receive resume -> erlang:resume_process(Pid) end
    end),
    receive {suspended, R} -> R end.

a_handler_runs_on_the_node_of_its_fun(Config) ->
    Shell = proplists:get_value(shell, Config),
    Coop = start([twice(a)]),
    Me = self(),
    CNode = c_node(),
    {ok, _} = erpc:call(Shell, fun() ->
        dbg:tracer(CNode, process, {fun(E, N) -> Me ! {event, {N, node(), E}}, N + 1 end, 1})
    end),
    {ok, [{matched, _, 1}]} = dbg(Config, p, [pid(Coop, a), r]),
    ok = coop:relay_batch(Coop, [1, 2, 3]),
    [2, 4, 6] = [result() || _ <- [1, 2, 3]],
    [{I, Shell, {trace, _, 'receive', I}} = event(fun(_) -> true end) || I <- [1, 2, 3]],
    ok = dbg(Config, stop, []),
    stop_linked(Coop).

a_handler_that_fails_ends_its_trace(Config) ->
    Shell = proplists:get_value(shell, Config),
    Coop = start([twice(a)]),
    CNode = c_node(),
    {ok, _} = erpc:call(Shell, fun() ->
        dbg:tracer(CNode, process, {fun(_, _) -> error(no) end, 1})
    end),
    {ok, [{matched, _, 1}]} = dbg(Config, p, [pid(Coop, a), r]),
    ok = coop:relay_data(Coop, 1),
    2 = result(),
    eventually(not_traced, fun() -> ask(dbg, get_info, []) =:= [] end),
    eventually(forgotten, fun() ->
        {error, {no_tracer_on_node, CNode}} =:= dbg(Config, get_tracer, [CNode])
    end),
    stop_linked(Coop).

%%% Ports

a_trace_port_is_read_by_a_trace_client(Config) ->
    Shell = proplists:get_value(shell, Config),
    CNode = c_node(),
    Coop = start([twice(a)]),
    Pid = pid(Coop, a),
    {ok, CNode} = erpc:call(Shell, fun() -> dbg:tracer(CNode, port, dbg:trace_port(ip, 0)) end),
    {ok, Port} = dbg(Config, get_tracer, [CNode]),
    true = is_port(Port) andalso node(Port) =:= CNode,
    {ok, Number} = dbg(Config, trace_port_control, [CNode, get_listen_port]),
    ok = dbg(Config, flush_trace_port, [CNode]),
    {ok, [{matched, _, 1}]} = dbg(Config, p, [Pid, [r, timestamp]]),
    %% what comes before anybody listens waits
    ok = coop:relay_data(Coop, 1),
    2 = result(),
    Me = self(),
    Client = erpc:call(Shell, fun() ->
        dbg:trace_client(ip, {"127.0.0.1", Number}, {fun ?MODULE:forward/2, Me})
    end),
    true = is_pid(Client),
    {trace_ts, Pid, 'receive', 1, {_, _, _}} = event(fun(_) -> true end),
    ok = coop:relay_data(Coop, 2),
    4 = result(),
    {trace_ts, Pid, 'receive', 2, {_, _, _}} = event(fun(_) -> true end),
    ok = dbg(Config, stop, []),
    stop_linked(Coop).

a_trace_port_that_nobody_reads_drops(Config) ->
    Shell = proplists:get_value(shell, Config),
    CNode = c_node(),
    Coop = start(coop_flow:pipeline([twice(a)]), #{receiver => none}),
    Pid = pid(Coop, a),
    {ok, CNode} = erpc:call(Shell, fun() -> dbg:tracer(CNode, port, dbg:trace_port(ip, {0, 50})) end),
    {ok, Number} = dbg(Config, trace_port_control, [CNode, get_listen_port]),
    {ok, [{matched, _, 1}]} = dbg(Config, p, [Pid, r]),
    ok = coop:relay_batch(Coop, lists:seq(1, 1000)),
    ok = coop:flush(Coop, ?LIMIT),
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Number, [binary, {active, false}]),
    Frames = frames(Socket, 51),
    [{trace, Pid, 'receive', _} = E || E <- lists:sublist(Frames, 50)],
    {drop, N} = lists:last(Frames),
    true = N >= 950,
    %% one that is cut off, and a second reader after it
    ok = gen_tcp:close(Socket),
    {ok, Second} = gen_tcp:connect({127, 0, 0, 1}, Number, [binary, {active, false}]),
    ok = coop:relay_data(Coop, 7),
    [{trace, Pid, 'receive', 7}] = [E || E <- [last_frame(Second)]],
    ok = gen_tcp:close(Second),
    ok = dbg(Config, stop, []),
    eventually(closed, fun() ->
        case gen_tcp:connect({127, 0, 0, 1}, Number, []) of
            {error, econnrefused} -> true;
            %% it waited to be accepted when the port was closed
            {error, econnreset} -> reset;
            {ok, S} -> gen_tcp:close(S), open
        end
    end),
    stop_linked(Coop).

frames(Socket, N) -> [frame(Socket) || _ <- lists:seq(1, N)].

frame(Socket) ->
    case gen_tcp:recv(Socket, 5, ?LIMIT) of
        {ok, <<0, Size:32>>} ->
            {ok, Bytes} = gen_tcp:recv(Socket, Size, ?LIMIT),
            binary_to_term(Bytes);
        {ok, <<1, N:32>>} ->
            {drop, N}
    end.

last_frame(Socket) ->
    case frame(Socket) of
        {trace, _, 'receive', 7} = Last -> Last;
        _ -> last_frame(Socket)
    end.

%% What the Trace Overview tab of observer calls (observer_trace_wx).
ttb_traces_as_observers_tab_does(Config) ->
    Shell = proplists:get_value(shell, Config),
    CNode = c_node(),
    Coop = start([twice(a)]),
    Pid = pid(Coop, a),
    Me = self(),
    {ok, [CNode]} = erpc:call(Shell, fun() ->
        ttb:tracer([CNode], [{file, {local, "ttb"}}, {shell, {only, fun(E) -> Me ! {event, E} end}}])
    end),
    {ok, _} = rpc:call(Shell, ttb, tpl, [deeds, twice, 2, [{'_', [], [{return_trace}]}]]),
    {ok, _} = rpc:call(Shell, ttb, tpe, [send, [{'_', [], []}]]),
    {ok, _} = rpc:call(Shell, ttb, p, [Pid, [c, s, timestamp]]),
    ok = coop:relay_data(Coop, 4),
    8 = result(),
    {trace_ts, Pid, call, {deeds, twice, [undefined, 4]}, _} = event(is(call)),
    {trace_ts, Pid, send, 8, Me, _} = event(is(send)),
    {trace_ts, Pid, return_from, {deeds, twice, 2}, {undefined, 8}, _} = event(is(return_from)),
    stopped = rpc:call(Shell, ttb, stop, [nofetch]),
    eventually(not_traced, fun() -> ask(dbg, get_info, []) =:= [] end),
    stop_linked(Coop),
    _ = collected().

is(What) -> fun(E) -> is_tuple(E) andalso tuple_size(E) > 2 andalso element(3, E) =:= What end.

%%% Sessions, of OTP 27 and later

sessions_are_separate(Config) ->
    Coop = start([twice(a)]),
    Pid = pid(Coop, a),
    {R1, S1} = session(one),
    {R2, S2} = session(two),
    1 = ask(dbg, erlang_trace, [S1, Pid, true, [call]]),
    1 = ask(dbg, erlang_trace, [S2, Pid, true, ['receive']]),
    {no_proc, no_such_name} = ask(dbg, erlang_trace, [S2, no_such_name, true, ['receive']]),
    1 = ask(trace, function, [S1, {deeds, twice, 2}, [], [local]]),
    1 = ask(trace, function, [S2, 'receive', [{['_', '_', 5], [], []}], []]),
    ok = coop:relay_batch(Coop, [4, 5]),
    %% events come, too, each from its relay
    [8, 10] = [receive N when is_integer(N) -> N after ?LIMIT -> ct:fail(no_result) end || _ <- [1, 2]],
    [_ = ask(dbg, deliver_and_flush, [S, R]) || {R, S} <- [{R1, S1}, {R2, S2}]],
    Events = [receive {R, E} -> {R, E} after ?LIMIT -> ct:fail(no_event) end || R <- [R1, R1, R2]],
    [{R1, {trace, Pid, call, {deeds, twice, [undefined, 4]}}},
     {R1, {trace, Pid, call, {deeds, twice, [undefined, 5]}}},
     {R2, {trace, Pid, 'receive', 5}}] = Events,
    %% one ends, the other stays
    exit(R1, done),
    receive {'EXIT', R1, normal} -> ok end,
    eventually(one_is_gone, fun() -> ask(erlang, trace_info, [Pid, flags]) =:= {flags, ['receive']} end),
    {badrpc, {'EXIT', {badarg, _}}} = ask(dbg, erlang_trace, [S1, Pid, true, [call]]),
    exit(R2, done),
    receive {'EXIT', R2, normal} -> ok end,
    eventually(not_traced, fun() -> ask(dbg, get_info, []) =:= [] end),
    stop_linked(Coop),
    _ = Config.

%% Its events come as {Relay, Event}.
session(Name) ->
    Me = self(),
    Collector = spawn_link(fun() -> receive {relay, R} -> collects(Me, R) end end),
    Relay = spawn_link(c_node(), dbg, do_relay, [Name, self(), Collector]),
    receive
        {started, Relay, Session} ->
            Collector ! {relay, Relay},
            {Relay, Session}
    after ?LIMIT -> ct:fail(dbg_would_hang)
    end.

collects(To, Relay) ->
    receive
        Event -> To ! {Relay, Event}
    end,
    collects(To, Relay).

%%% What makes no sense

bad_requests_get_what_a_beam_answers(Config) ->
    Beam = proplists:get_value(beam, Config),
    Answer = fun(Node, {M, F, Args}) ->
        case rpc:call(Node, M, F, Args) of
            {badrpc, {'EXIT', {badarg, _}}} -> badarg;
            Other -> Other
        end
    end,
    Me = self(),
    Dead = fun(Node) ->
        P = spawn(Node, timer, sleep, [0]),
        gone(P),
        P
    end,
    Calls = fun(Node) ->
        D = Dead(Node),
        [{erlang, trace, Args} || Args <- [
            [all, true, [no_such_flag]], [all, true, [call | x]], [all, maybe_, [call]],
            [no_such_process, true, [call]], [D, true, [call]], [Me, true, [call]],
            [all, true, [{tracer, Me}, call]], [all, true, [{tracer, x}]], [all, true, call],
            [new_ports, true, [ports]], [#{}, true, []]
        ]] ++
        %% with a session ahead of them since OTP 27
        [{dbg, erlang_trace, Args} || lists:member({erlang_trace, 3}, dbg:module_info(exports)), Args <- [
            [D, true, [call]], [no_such_name, true, [call]], ["x", true, [call]], [{0, 1, 2}, true, [call]]
        ]] ++
        [{erlang, trace_pattern, Args} || Args <- [
            [{no_such_module, f, 1}, true, []], [{no_such_module, '_', '_'}, [], [local]],
            [{'_', f, '_'}, true, []], [{m, '_', 1}, true, []], [{m, f, x}, true, []], [{m, f, -1}, true, []],
            [{m, f}, true, []], [x, true, []], [{1, 2, 3}, true, []],
            [{m, f, 1}, [{'_', []}], []], [{m, f, 1}, [{'_', [], [{no_such_function}]}], []],
            [{m, f, 1}, [{x, [], []}], []], [{m, f, 1}, x, []], [{m, f, 1}, true, [local, global]],
            [{m, f, 1}, true, [no_such_option]], [{m, f, 1}, true, x], [send, true, [local]],
            [send, [{'_', [], [{caller}]}], []], [send, x, []], ['receive', true, []], [send, true, []]
        ]] ++
        [{erlang, trace_info, Args} || Args <- [
            [D, flags], [new, flags], [new, tracer], [x, flags], [Me, flags], [send, x], [send, match_spec],
            [{no_such_module, f, 1}, traced], [new, x]
        ]] ++
        [{erlang, match_spec_test, Args} || Args <- [
            [x, [{'_', [], []}], trace], [[], [{'_', [], []}], x], [[], [{'_', [], []}], trace]
        ]]
    end,
    Compared = [{C, Answer(Beam, B), Answer(c_node(), C)} || {B, C} <- lists:zip(Calls(Beam), Calls(c_node()))],
    [] = [{C, T, O} || {C, T, O} <- Compared, plain(T) =/= plain(O)].

%% Not which process it was.
plain({no_proc, Pid}) when is_pid(Pid) -> {no_proc, a_pid};
plain(Other) -> Other.

odd_specifications_are_refused(_) ->
    %% what is about an emulator, or about sequential tracing
    [
        {badrpc, {'EXIT', {badarg, _}}} =
            ask(erlang, trace_pattern, [{deeds, twice, 2}, [{'_', [], [Action]}], [local]])
     || Action <- [
            {process_dump}, {display, x}, {enable_trace, call}, {disable_trace, call}, {trace, [], [call]},
            {set_seq_token, label, 1}, {get_seq_token}, {is_seq_trace}, {current_stacktrace}
        ]
    ],
    [
        {badrpc, {'EXIT', {badarg, _}}} = ask(erlang, trace_pattern, [{deeds, twice, 2}, true, [Option]])
     || Option <- [meta, {meta, self()}, call_count, call_time]
    ],
    {badrpc, {'EXIT', {badarg, _}}} = ask(erlang, trace, [all, true, [cpu_timestamp]]),
    {badrpc, {'EXIT', {badarg, _}}} = ask(erlang, trace, [all, true, [{tracer, m, s}]]),
    %% large, deep
    Many = [{['$1', N], [{'>', '$1', N}], []} || N <- lists:seq(1, 20_000)],
    {badrpc, {'EXIT', {badarg, _}}} = ask(erlang, trace_pattern, [{deeds, twice, 2}, Many, []]),
    Deep = lists:foldl(fun(_, E) -> {'not', E} end, true, lists:seq(1, 9_000)),
    {ok, true, [], []} = ask(erlang, match_spec_test, [[1], [{['$1'], [Deep], []}], trace]),
    DeepHead = lists:foldl(fun(_, E) -> [E] end, '$1', lists:seq(1, 9_000)),
    {ok, false, [], []} = ask(erlang, match_spec_test, [[1], [{[DeepHead], [], []}], trace]),
    {ok, _, [], []} = ask(erlang, match_spec_test, [
        [DeepHead, DeepHead], [{['$1', '$2'], [{'==', '$1', '$2'}], [{message, {'<', '$1', '$2'}}]}], trace
    ]).

%%% Match specifications, generated

match_specifications_mean_what_they_mean_there(_) ->
    Tests = list_to_integer(os:getenv("ESP_PROPERTY_TESTS", "60")),
    esp_test_lib:holds(
        proper:forall(proper_types:integer(), fun(Seed) -> agree(Seed, 50) end), Tests
    ).

%% OTP 26 and later find out as it runs what can be no record, or no boolean.
is_laxer() -> erlang:system_info(otp_release) > "25".

agree(Seed, N) ->
    _ = rand:seed(exsss, {Seed, N, 1}),
    lists:all(
        fun(_) ->
            Args = [value(3) || _ <- lists:seq(1, rand:uniform(3))],
            Spec = [clause(Args) || _ <- lists:seq(1, rand:uniform(2))],
            Theirs = tested(erlang:match_spec_test(Args, Spec, trace), node()),
            case tested(ask(erlang, match_spec_test, [Args, Spec, trace]), c_node()) of
                Theirs -> true;
                Ours ->
                    ct:pal("~0p~n~0p~ntheirs ~0p~nours ~0p", [Args, Spec, Theirs, Ours]),
                    Ours =:= error andalso is_laxer()
            end
        end,
        lists:seq(1, N)
    ).

%% Which error it is, is for people.
tested({error, [_ | _]}, _) -> error;
tested({ok, Result, Flags, []}, Node) -> {local(Result, Node), lists:sort(Flags)};
tested(Other, _) -> Other.

%% {self} and {node} are of the node that was asked.
local(Node, Node) -> this_node;
local(Pid, _) when is_pid(Pid) -> a_pid;
local(T, Node) when is_tuple(T) -> list_to_tuple([local(E, Node) || E <- tuple_to_list(T)]);
local([H | T], Node) -> [local(H, Node) | local(T, Node)];
local(M, Node) when is_map(M) -> maps:map(fun(_, V) -> local(V, Node) end, M);
local(Other, _) -> Other.

clause(Args) ->
    Head =
        case rand:uniform(6) of
            1 -> '_';
            2 -> '$1';
            3 -> pick([{'$1'}, x, [], #{}, ['$1' | '$2']]);
            _ -> [pattern(A) || A <- Args]
        end,
    Vars = pick([['$1'], ['$1', '$2', '$3']]),
    {Head, [expr(3, Vars) || _ <- lists:seq(2, rand:uniform(3))],
     [action(Vars) || _ <- lists:seq(2, rand:uniform(3))]}.

pattern(V) ->
    case rand:uniform(8) of
        1 -> '_';
        2 -> '$1';
        3 -> '$2';
        4 -> '$3';
        5 when is_tuple(V) -> list_to_tuple([pattern(E) || E <- tuple_to_list(V)]);
        5 when is_list(V) -> try [pattern(E) || E <- V] catch error:_ -> V end;
        5 when is_map(V) -> maps:map(fun(_, E) -> pattern(E) end, V);
        6 -> value(1);
        _ -> V
    end.

action(Vars) ->
    case rand:uniform(8) of
        1 -> {return_trace};
        2 -> {exception_trace};
        3 -> {silent, expr(1, Vars)};
        4 -> expr(2, Vars);
        _ -> {message, expr(3, Vars)}
    end.

expr(0, Vars) ->
    case rand:uniform(3) of
        1 -> pick(Vars ++ ['$_', '$$', '$1']);
        _ -> literal(value(1))
    end;
expr(D, Vars) ->
    E = fun() -> expr(D - 1, Vars) end,
    case rand:uniform(16) of
        N when N < 3 -> expr(0, Vars);
        3 -> {{E(), E()}};
        4 -> [E(), E()];
        5 -> #{a => E(), pick([b, 1, 2.0]) => E()};
        6 -> {const, value(2)};
        7 -> list_to_tuple([pick(['and', 'or', 'andalso', 'orelse']) | [E() || _ <- lists:seq(1, rand:uniform(3))]]);
        N when N < 11 ->
            {pick(['=:=', '==', '/=', '=/=', '<', '=<', '>', '>=', '+', '-', '*', '/', 'div', 'rem', 'band', 'bor',
                   'bxor', 'bsl', 'bsr', 'xor', element, map_get, is_map_key]), E(), small(E())};
        N when N < 14 ->
            {pick([abs, hd, tl, length, node, round, size, trunc, '+', '-', float, bit_size, byte_size, map_size,
                   'bnot', 'not', is_atom, is_float, is_integer, is_list, is_number, is_pid, is_port, is_reference,
                   is_tuple, is_map, is_binary, is_function, tuple_size, is_boolean]), E()};
        14 -> {pick([binary_part, is_record]), E(), pick([a, 0, 1, E()]), pick([1, 2, -1, E()])};
        15 -> pick([{self}, {node}, {get_tcw}, {caller}]);
        16 -> {binary_part, E(), {{pick([0, 1]), pick([1, 2])}}}
    end.

%% Not by so much that it is a question of memory.
small(E) when is_integer(E), abs(E) > 1000 -> E rem 1000;
small(E) -> E.

literal(T) when is_tuple(T) -> {const, T};
literal(L) when is_list(L) -> {const, L};
literal(M) when is_map(M) -> {const, M};
literal(Other) -> Other.

value(0) ->
    case rand:uniform(14) of
        1 -> 1 bsl 70 + rand:uniform(5);
        2 -> -(1 bsl 64);
        3 -> rand:uniform() * 10 - 5;
        4 -> pick([1.0, 2.0, -0.5, 1.0e20, 9007199254740993, 1.5e300]);
        5 -> <<1, 2, 3>>;
        6 -> <<1, 2, 3:4>>;
        7 -> pick([self(), make_ref(), fun lists:map/2]);
        8 -> pick(["abc", [], <<>>, {}, #{}]);
        9 -> pick([a, b, true, false, 'EXIT', undefined, 'ä']);
        _ -> rand:uniform(9) - 4
    end;
value(D) ->
    V = fun() -> value(D - 1) end,
    case rand:uniform(8) of
        1 -> {V(), V()};
        2 -> [V(), V()];
        3 -> [V() | V()];
        4 -> #{a => V(), pick([b, 1, 1.0]) => V()};
        5 -> {a, V()};
        _ -> value(0)
    end.

pick(List) -> lists:nth(rand:uniform(length(List)), List).
