%% seq_trace's tokens on their way through co-ops of either home, and the events of
%% C++ processes. The oracle is a row of plain processes on another VM: a datum that
%% goes through as many hands there leaves the same events.
-module(seq_trace_SUITE).

-export([all/0, suite/0, groups/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([init_per_group/2, end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([hand/1, forward/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, mailbox/0, down/1]).

-define(C_NODE, t_seq_trace).
-define(LIMIT, 10_000).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [{group, G} || G <- homes()] ++
        [
            a_task_talks_under_its_token,
            a_task_that_waits_shows_its_token,
            a_message_without_a_token_ends_the_trace,
            a_child_has_its_parents_token,
            a_task_prints,
            flags_choose_the_events,
            events_have_the_timestamp_asked_for,
            whoever_asks_a_process_keeps_the_token,
            a_traced_rpc_is_as_that_of_a_vm,
            a_tracer_may_be_set_on_the_c_node,
            a_tracer_that_ends_is_the_vms_again,
            a_reset_ends_what_is_on_its_way,
            a_port_is_given_the_events,
            without_a_tracer_the_token_travels_all_the_same,
            a_token_that_nobody_can_have_made_is_none
        ].

groups() -> [{G, [], cases()} || G <- homes()].

homes() -> [native, vm, native_first, vm_first, to_and_fro].

cases() ->
    [
        a_datum_leaves_the_events_of_a_row_of_processes,
        a_priority_datum_does_too,
        each_datum_of_a_batch_is_traced,
        a_plain_message_is_traced,
        a_result_of_a_call_brings_the_token_back,
        a_large_datum_keeps_its_token,
        any_term_is_a_label,
        no_label_is_on_anothers_datum,
        no_label_is_on_anothers_batch,
        no_label_is_on_what_was_asked_for,
        what_waits_at_a_stand_in_keeps_its_label,
        what_waits_keeps_its_label_when_the_body_is_made_again,
        a_dropped_call_is_told_under_its_token,
        a_flush_is_no_part_of_a_trace
    ].

init_per_suite(Config) ->
    CNode = esp_test_c_node:start(?C_NODE),
    Peer = esp_test_c_node:start_peer(seq_trace_oracle),
    [{c_node, CNode}, {peer, Peer} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop_peer(proplists:get_value(peer, Config)),
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

init_per_group(Homes, Config) -> [{homes, Homes} | Config].
end_per_group(_, _) -> ok.

init_per_testcase(_, Config) ->
    Tracer = spawn_link(fun() -> tracer([]) end),
    false = seq_trace:set_system_tracer(Tracer),
    [{tracer, Tracer} | Config].

end_per_testcase(_, Config) ->
    _ = seq_trace:set_token([]),
    Tracer = proplists:get_value(tracer, Config),
    unlink(Tracer),
    exit(Tracer, kill),
    false = rpc:call(esp_node:node(?C_NODE), seq_trace, get_system_tracer, []),
    eventually(no_tracer, fun() -> seq_trace:get_system_tracer() =:= false end).

%%% Events

tracer(Events) ->
    receive
        {take, From, Ref} ->
            From ! {events, Ref, lists:reverse(Events)},
            tracer([]);
        Event ->
            tracer([Event | Events])
    end.

%% All that led to what the caller has received.
events(Config) ->
    _ = seq_trace:set_token([]),
    _ = sys:get_state(esp_seq_trace),
    Ref = make_ref(),
    proplists:get_value(tracer, Config) ! {take, self(), Ref},
    take(events, Ref).

take(What, Ref) -> esp_test_lib:take(What, Ref).

set_token(Label) -> set_token(Label, [send, 'receive']).
set_token(Label, Flags) ->
    _ = seq_trace:set_token([]),
    _ = seq_trace:set_token(label, Label),
    _ = seq_trace:set_token(serial, {0, 0}),
    _ = [seq_trace:set_token(Flag, true) || Flag <- Flags],
    ok.

label() ->
    case seq_trace:get_token(label) of
        {label, Label} -> {label, Label};
        [] -> none
    end.

%% The events of one datum, in the order in which they must have been, with the
%% places of the processes in that order and the datum out of its message.
told(Events) ->
    Sorted = lists:sort(
        fun({_, A}, {_, B}) -> key(A) =< key(B) end, [{L, I} || {seq_trace, L, I} <- Events]
    ),
    {Told, _} = lists:mapfoldl(
        fun({Label, {What, Serial, From, To, Message}}, Places0) ->
            {F, Places1} = place(From, Places0),
            {T, Places2} = place(To, Places1),
            {{Label, What, Serial, F, T, datum(Message)}, Places2}
        end,
        #{},
        Sorted
    ),
    Told.

key({What, {Previous, Serial}, _, _, _}) -> {Serial, Previous, What =:= 'receive'}.

place(Pid, Places) when is_map_key(Pid, Places) -> {maps:get(Pid, Places), Places};
place(Pid, Places) -> {map_size(Places), Places#{Pid => map_size(Places)}}.

datum({'$coop', batch, _, _, _, Data}) -> Data;
datum({'$coop', _, _, _, _, Datum}) -> Datum;
datum({Tag, Result}) when is_reference(Tag); is_list(Tag) -> Result;
datum({coop_batch, _, Data}) -> Data;
datum(Datum) -> Datum.

%%% The oracle: so many processes of a VM, each of which passes on what it gets

row(Config, Label, Datum, Hands) ->
    {_, Node} = proplists:get_value(peer, Config),
    Self = self(),
    Ref = make_ref(),
    Tracer = erpc:call(Node, ?MODULE, hand_tracer, [Self, Ref]),
    First = lists:foldl(
        fun(_, Next) -> erpc:call(Node, erlang, spawn, [?MODULE, hand, [Next]]) end,
        Self,
        lists:seq(1, Hands)
    ),
    set_token(Label),
    First ! Datum,
    [Datum] = take(1),
    Here = events(Config),
    told(Here ++ events_there(Node, Tracer, Ref)).

%% What a hand_tracer/2 there has got, which is no tracer any more.
events_there(Node, Tracer, Ref) ->
    Tracer ! stop,
    There =
        receive
            {there, Ref, All} -> All
        after ?LIMIT -> ct:fail({waited_in_vain_for, events_of, Node})
        end,
    erpc:call(Node, seq_trace, set_system_tracer, [false]),
    There.

%% Runs there.
hand_tracer(To, Ref) ->
    Tracer = spawn(fun() -> forward({To, Ref, []}) end),
    _ = seq_trace:set_system_tracer(Tracer),
    Tracer.

forward({To, Ref, Events}) ->
    receive
        stop -> To ! {there, Ref, lists:reverse(Events)};
        Event -> forward({To, Ref, [Event | Events]})
    end.

hand(Next) ->
    receive
        Datum -> Next ! Datum
    end.

%%% Co-ops whose two or four nodes pass their datum on

pass(Name) -> coop:task(Name, fun(S, D) -> {S, D} end, #{}).
same(Name) -> coop:native(Name, sums, same, #{}).

nodes_of(native) -> [same(a), same(b)];
nodes_of(vm) -> [pass(a), pass(b)];
nodes_of(native_first) -> [same(a), pass(b)];
nodes_of(vm_first) -> [pass(a), same(b)];
nodes_of(to_and_fro) -> [pass(a), same(b), pass(c), same(d)].

homes(Config) -> proplists:get_value(homes, Config).
passers(Config) -> nodes_of(homes(Config)).

start(Config) -> start(Config, #{}).
start(Config, More) ->
    start_nodes(passers(Config), More).

start_nodes(Nodes, More) ->
    {ok, Coop} = coop:start_link(
        coop_flow:pipeline(Nodes), maps:merge(#{node => ?C_NODE, receiver => self()}, More)
    ),
    %% with credit, so that relaying is the one message that it looks like
    ok = coop:relay_data(Coop, first),
    ok = coop:relay_high_priority_data(Coop, first),
    ok = coop:flush(Coop, ?LIMIT),
    _ = mailbox(),
    Coop.

%%% In each home

a_datum_leaves_the_events_of_a_row_of_processes(Config) ->
    is_as_a_row(fun coop:relay_data/2, Config).

a_priority_datum_does_too(Config) ->
    is_as_a_row(fun coop:relay_high_priority_data/2, Config).

is_as_a_row(Relay, Config) ->
    Coop = start(Config),
    set_token(17),
    ok = Relay(Coop, {a, datum}),
    [{a, datum}] = take(1),
    Told = told(events(Config)),
    Expected = row(Config, 17, {a, datum}, 1 + length(passers(Config))),
    {Expected, Expected} = {Expected, Told},
    ok = coop:stop(Coop).

each_datum_of_a_batch_is_traced(Config) ->
    Coop = start(Config),
    set_token(18),
    ok = coop:relay_batch(Coop, [x, y, z]),
    [{x, {label, 18}}, {y, {label, 18}}, {z, {label, 18}}] = [
        receive
            Datum -> {Datum, label()}
        end
     || _ <- [1, 2, 3]
    ],
    Events = events(Config),
    %% each is sent on by the head and by each node
    [
        {D, N} = {D, length([x || {_, _, {send, _, _, _, M}} <- Events, datum(M) =:= D])}
     || D <- [x, y, z], N <- [1 + length(passers(Config))]
    ],
    are_linked(Events),
    ok = coop:stop(Coop).

%% Every message was sent after that which its sender had received before.
are_linked(Events) ->
    Received = [{To, Serial} || {_, _, {'receive', {_, Serial}, _, To, _}} <- Events],
    [
        true = lists:member({From, Previous}, Received)
     || {_, _, {send, {Previous, _}, From, _, _}} <- Events, Previous > 0
    ],
    ok.

a_plain_message_is_traced(Config) ->
    Coop = start(Config),
    set_token(19),
    coop:head(Coop) ! plain,
    [plain] = take(1),
    {label, 19} = label(),
    Told = told(events(Config)),
    Expected = row(Config, 19, plain, 1 + length(passers(Config))),
    {Expected, Expected} = {Expected, Told},
    ok = coop:stop(Coop).

a_result_of_a_call_brings_the_token_back(Config) ->
    Coop = start(Config),
    set_token(20),
    {ok, question} = coop:call(Coop, question, ?LIMIT),
    {label, 20} = label(),
    Told = told(events(Config)),
    Expected = row(Config, 20, question, 1 + length(passers(Config))),
    %% an alias is what the answer was sent to
    Flat = fun(All) -> [{W, S, D} || {_, W, S, _, _, D} <- All] end,
    {Same, Same} = {Flat(Expected), Flat(Told)},
    [] = mailbox(),
    ok = coop:stop(Coop).

a_large_datum_keeps_its_token(Config) ->
    Coop = start(Config),
    Large = binary:copy(<<"large">>, 300_000),
    set_token(21),
    ok = coop:relay_data(Coop, Large),
    [Large] = take(1),
    {label, 21} = label(),
    Told = told(events(Config)),
    N = 2 * (2 + length(passers(Config))),
    N = length([x || {21, _, _, _, _, D} <- Told, D =:= Large]),
    ok = coop:stop(Coop).

any_term_is_a_label(Config) ->
    Coop = start(Config),
    [
        begin
            set_token(Label),
            ok = coop:relay_data(Coop, datum),
            [datum] = take(1),
            {label, Label} = label(),
            [Label] = lists:usort([L || {seq_trace, L, _} <- events(Config)])
        end
     || Label <- [0, -1, 1 bsl 70, {a, "b", <<"c">>}, [], #{k => 1.5}, self(), make_ref(), 'å']
    ],
    ok = coop:stop(Coop).

%% Every third has no token, and no two others have the same one.
no_label_is_on_anothers_datum(Config) ->
    labels_stay(#{window => 2}, fun coop:relay_data/2, fun(_) -> ok end, Config).

no_label_is_on_anothers_batch(Config) ->
    labels_stay(#{window => 4, batch => 3}, fun coop:relay_data/2, fun(_) -> ok end, Config).

no_label_is_on_what_was_asked_for(Config) ->
    [
        labels_stay(
            maps:merge(#{receiver => {demand, self()}}, Batch),
            fun coop:relay_data/2,
            fun(Coop) -> ok = coop:ask(Coop, 1000) end,
            Config
        )
     || Batch <- [#{}, #{batch => 4}]
    ].

what_waits_at_a_stand_in_keeps_its_label(Config) ->
    labels_stay(
        #{stand_in => true, window => 2},
        fun(Coop, Datum) ->
            Coop ! Datum,
            ok
        end,
        fun(_) -> ok end,
        Config
    ).

labels_stay(Options, Relay, Then, Config) ->
    {ok, Coop} = coop:start_link(
        coop_flow:pipeline(passers(Config)),
        maps:merge(#{node => ?C_NODE, receiver => self()}, Options)
    ),
    N = 150,
    Relays = [relay_apart(Coop, Relay, From, N) || From <- [0, N]],
    [normal = down(Ref) || Ref <- Relays],
    Then(Coop),
    All = labelled(2 * N),
    [{D, Label} = {D, label_of(D)} || {D, Label} <- All],
    Events = events(Config),
    [
        {L, D} = {element(2, label_of(D)), D}
     || {seq_trace, L, {_, _, _, _, M}} <- Events, D <- data_in(M)
    ],
    are_linked(Events),
    ok = coop:stop(Coop).

relay_apart(Coop, Relay, From, N) ->
    {_, Ref} = spawn_monitor(fun() ->
        [
            begin
                _ = seq_trace:set_token([]),
                [set_token(L) || {label, L} <- [label_of(D)]],
                ok = Relay(Coop, D)
            end
         || D <- lists:seq(From + 1, From + N)
        ]
    end),
    Ref.

label_of(D) when D rem 3 =:= 0 -> none;
label_of(D) -> {label, {of_datum, D}}.

labelled(0) ->
    [];
labelled(N) ->
    receive
        {coop_batch, _, Data} ->
            Label = label(),
            [{D, Label} || D <- Data] ++ labelled(N - length(Data));
        D when is_integer(D) ->
            Label = label(),
            [{D, Label} | labelled(N - 1)]
    after ?LIMIT -> ct:fail({waited_in_vain_for, N, data})
    end.

data_in({'$coop', _, _, _, _, D}) when is_integer(D) -> [D];
data_in({'$coop', _, _, _, _, {coop_batch, _, Data}}) -> Data;
data_in({coop_batch, _, Data}) -> Data;
data_in(D) when is_integer(D) -> [D];
data_in(_) -> [].

%% Data that wait behind one that its node cannot get done with.
what_waits_keeps_its_label_when_the_body_is_made_again(Config) ->
    Coop = start_nodes([pass(a), crashing(b, homes(Config)), pass(c)], #{
        restart => body
    }),
    Data = [{exit, crash} | lists:seq(1, 60)],
    [
        begin
            _ = seq_trace:set_token([]),
            [set_token(L) || is_integer(D), {label, L} <- [label_of(D)]],
            ok = coop:relay_data(Coop, D)
        end
     || D <- Data
    ],
    _ = seq_trace:set_token([]),
    _ = coop:flush(Coop, ?LIMIT),
    ok = coop:flush(Coop, ?LIMIT),
    %% what came before the flush, less what was lost with the node
    All = [{D, L} || {D, L} <- labels_of_mailbox(), is_integer(D)],
    [{D, L} = {D, label_of(D)} || {D, L} <- All],
    true = length(All) > 0,
    ok = coop:stop(Coop).

labels_of_mailbox() ->
    receive
        D -> [{D, label()} | labels_of_mailbox()]
    after 0 -> []
    end.

crashing(Name, Homes) when Homes =:= vm; Homes =:= native_first ->
    coop:task(
        Name,
        fun
            (_, {exit, Reason}) -> exit(Reason);
            (S, D) -> {S, D}
        end,
        #{}
    );
crashing(Name, _) ->
    coop:native(Name, throws, act, #{}).

a_dropped_call_is_told_under_its_token(Config) ->
    Coop = start(Config, #{overload => {sojourn, 1}}),
    ok = sys:suspend(coop:head(Coop)),
    Self = self(),
    {Caller, Ref} = spawn_monitor(fun() ->
        set_token(22),
        Answer = coop:call(Coop, late, ?LIMIT),
        Label = label(),
        _ = seq_trace:set_token([]),
        Self ! {Answer, Label}
    end),
    eventually(queued, fun() -> maps:get(queue, coop:info(Coop)) > 0 end),
    Begin = erlang:monotonic_time(millisecond),
    eventually(late, fun() -> erlang:monotonic_time(millisecond) > Begin + 10 end),
    ok = sys:resume(coop:head(Coop)),
    [{{error, overloaded}, {label, 22}}] = take(1),
    normal = down(Ref),
    false = is_process_alive(Caller),
    ok = coop:stop(Coop).

a_flush_is_no_part_of_a_trace(Config) ->
    Coop = start(Config),
    set_token(23),
    Before = seq_trace:get_token(),
    ok = coop:flush(Coop, ?LIMIT),
    Before = seq_trace:get_token(),
    [] = events(Config),
    ok = coop:stop(Coop).

%%% In a native task

talks() -> start_nodes([coop:native(talk, talks, talk, #{})], #{}).

server() ->
    spawn_link(fun Loop() ->
        receive
            {'$gen_call', From, Request} ->
                gen_server:reply(From, {label(), Request}),
                Loop();
            stop ->
                ok
        end
    end).

a_task_talks_under_its_token(Config) ->
    Coop = talks(),
    Server = server(),
    set_token(30),
    ok = coop:relay_data(Coop, {call, Server, who}),
    [{ok, {{label, 30}, who}}] = take(1),
    {label, 30} = label(),
    Events = events(Config),
    are_linked(Events),
    %% relayed, head to node, node to server, server to node, node to here
    [{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}] =
        lists:sort([S || {_, _, {send, S, _, _, _}} <- Events]),
    [{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}] =
        lists:sort([S || {_, _, {'receive', S, _, _, _}} <- Events]),
    ok = coop:stop(Coop).

a_task_that_waits_shows_its_token(Config) ->
    Coop = talks(),
    set_token(31),
    ok = coop:relay_data(Coop, {wait, self()}),
    [{waiting, Node}] = take(1),
    _ = seq_trace:set_token([]),
    Shown = rpc:call(esp_node:node(?C_NODE), erlang, process_info, [Node, sequential_trace_token]),
    {sequential_trace_token, {3, 31, 3, Node, 2}} = Shown,
    set_token(32),
    Node ! {go, on},
    [on] = take(1),
    %% it goes on with that of what it received last
    {label, 32} = label(),
    _ = seq_trace:set_token([]),
    {sequential_trace_token, []} =
        rpc:call(esp_node:node(?C_NODE), erlang, process_info, [Node, sequential_trace_token]),
    are_linked(events(Config)),
    ok = coop:stop(Coop).

a_message_without_a_token_ends_the_trace(_) ->
    Coop = talks(),
    set_token(33),
    ok = coop:relay_data(Coop, {wait, self()}),
    [{waiting, Node}] = take(1),
    {label, 33} = label(),
    _ = seq_trace:set_token([]),
    Node ! {go, on},
    set_token(34),
    [on] = take(1),
    none = label(),
    ok = coop:stop(Coop).

a_child_has_its_parents_token(Config) ->
    Coop = talks(),
    set_token(35),
    ok = coop:relay_data(Coop, {spawn, self()}),
    Child =
        receive
            {from_child, Pid} ->
                {label, 35} = label(),
                Pid
        after ?LIMIT -> ct:fail({waited_in_vain_for, child})
        end,
    [Child] = take(1),
    {label, 35} = label(),
    Events = events(Config),
    are_linked(Events),
    [{spawn_request, _, Parent, _, {esp, spawn, 1}, [], spawn_reply, []}] =
        [M || {_, 35, {'receive', _, _, To, M}} <- Events, To =:= Child],
    [Parent] = [From || {_, 35, {send, _, From, To, _}} <- Events, To =:= Child],
    ok = coop:stop(Coop).

a_task_prints(Config) ->
    Coop = talks(),
    ok = coop:relay_data(Coop, {print, silent}),
    [false] = take(1),
    set_token(36, [print]),
    ok = coop:relay_data(Coop, {print, {something, "new"}}),
    [true] = take(1),
    #{nodes := [{talk, Node}]} = coop:info(Coop),
    [{seq_trace, 36, {print, {2, 3}, Node, [], {something, "new"}}}] =
        [E || {_, _, {print, _, _, _, _}} = E <- events(Config)],
    ok = coop:stop(Coop).

flags_choose_the_events(Config) ->
    Coop = talks(),
    [
        begin
            set_token(37, Flags),
            ok = coop:relay_data(Coop, datum),
            [datum] = take(1),
            {label, 37} = label(),
            Flags = lists:usort([What || {_, _, {What, _, _, _, _}} <- events(Config)])
        end
     || Flags <- [[], ['receive'], [send], ['receive', send]]
    ],
    ok = coop:stop(Coop).

events_have_the_timestamp_asked_for(Config) ->
    Coop = talks(),
    Of = fun(Flag) ->
        set_token(38, [send, 'receive', Flag]),
        ok = coop:relay_data(Coop, datum),
        [datum] = take(1),
        #{nodes := [{talk, Node}]} = coop:info(Coop),
        %% those of the C-node
        [
            At
         || {seq_trace, 38, {What, _, From, To, _}, At} <- events(Config),
            From =:= Node orelse To =:= Node,
            What =:= send orelse To =:= Node
        ]
    end,
    Now = erlang:system_time(second),
    Stamps = Of(timestamp),
    3 = length(Stamps),
    [true = abs(Mega * 1_000_000 + Sec - Now) < 60 || {Mega, Sec, Micro} <- Stamps, Micro < 1_000_000],
    Times = Of(monotonic_timestamp),
    3 = length(Times),
    Times = lists:sort([T || T <- Times, is_integer(T)]),
    Strict = Of(strict_monotonic_timestamp),
    3 = length(Strict),
    Strict = lists:usort([{T, N} || {T, N} <- Strict, is_integer(T), is_integer(N)]),
    ok = coop:stop(Coop).

%%% Whoever asks

whoever_asks_a_process_keeps_the_token(Config) ->
    Coop = start_nodes(nodes_of(to_and_fro), #{}),
    Pids = esp_test_lib:pids(Coop),
    set_token(40),
    [
        begin
            _ = sys:get_state(Pid),
            {label, 40} = label(),
            _ = sys:get_status(Pid),
            {label, 40} = label(),
            ok = sys:suspend(Pid),
            ok = sys:resume(Pid),
            {label, 40} = label(),
            _ = coop_process:ask(Pid, info, ?LIMIT),
            {label, 40} = label(),
            Pid ! {get_modules, self()},
            [{modules, _}] = take(1),
            {label, 40} = label()
        end
     || Pid <- Pids
    ],
    are_linked(events(Config)),
    %% and leaves none behind
    ok = coop:relay_data(Coop, untraced),
    [untraced] = take(1),
    [] = events(Config),
    ok = coop:stop(Coop).

a_traced_rpc_is_as_that_of_a_vm(Config) ->
    CNode = esp_node:node(?C_NODE),
    {_, Node} = proplists:get_value(peer, Config),
    Ref = make_ref(),
    Tracer = erpc:call(Node, ?MODULE, hand_tracer, [self(), Ref]),
    Of = fun(At) ->
        set_token(41),
        At = erpc:call(At, erlang, node, []),
        {label(), events(Config)}
    end,
    {Label, Here} = Of(Node),
    There = events_there(Node, Tracer, Ref),
    {Label, Both} = Of(CNode),
    %% names of nodes and references aside
    Shapes = fun(Events) ->
        lists:sort([{W, S, F =:= self(), shape(M)} || {_, _, {W, S, F, _, M}} <- Events])
    end,
    {Same, Same} = {Shapes(Here ++ There), Shapes(Both)},
    ok.

shape(M) when is_tuple(M) -> {element(1, M), tuple_size(M)};
shape(M) when is_list(M) -> length(M).

%%% Tracers

a_tracer_may_be_set_on_the_c_node(Config) ->
    CNode = esp_node:node(?C_NODE),
    Coop = talks(),
    false = rpc:call(CNode, seq_trace, set_system_tracer, [self()]),
    Self = self(),
    Self = rpc:call(CNode, seq_trace, get_system_tracer, []),
    set_token(50, [send]),
    ok = coop:relay_data(Coop, datum),
    Three = take(3),
    _ = seq_trace:set_token([]),
    [datum] = [M || M <- Three, M =:= datum],
    Head = coop:head(Coop),
    [{Head, {1, 2}}, {_, {2, 3}}] =
        [{From, S} || {seq_trace, 50, {send, S, From, _, _}} <- Three],
    %% here is this VM's
    [{send, {0, 1}, Self, Head, _}] = [Info || {seq_trace, 50, Info} <- events(Config)],
    Self = rpc:call(CNode, seq_trace, set_system_tracer, [false]),
    {badrpc, {'EXIT', {badarg, _}}} = rpc:call(CNode, seq_trace, set_system_tracer, [nobody]),
    ok = coop:stop(Coop).

a_tracer_that_ends_is_the_vms_again(Config) ->
    CNode = esp_node:node(?C_NODE),
    Coop = talks(),
    {Tracer, Ref} = spawn_monitor(fun() ->
        receive
            stop -> ok
        end
    end),
    false = rpc:call(CNode, seq_trace, set_system_tracer, [Tracer]),
    Tracer ! stop,
    normal = down(Ref),
    eventually(no_tracer, fun() ->
        rpc:call(CNode, seq_trace, get_system_tracer, []) =:= false
    end),
    set_token(51, [send]),
    ok = coop:relay_data(Coop, datum),
    [datum] = take(1),
    3 = length(events(Config)),
    ok = coop:stop(Coop).

a_reset_ends_what_is_on_its_way(Config) ->
    Coop = talks(),
    set_token(52),
    ok = coop:relay_data(Coop, {wait, self()}),
    [{waiting, Node}] = take(1),
    set_token(53),
    ok = coop:relay_data(Coop, waits),
    _ = seq_trace:set_token([]),
    eventually(waits, fun() ->
        {_, N} = rpc:call(esp_node:node(?C_NODE), erlang, process_info, [Node, message_queue_len]),
        N =:= 1
    end),
    _ = events(Config),
    true = rpc:call(esp_node:node(?C_NODE), seq_trace, reset_trace, []),
    Node ! {go, on},
    [{on, none}, {waits, none}] = [
        receive
            D -> {D, label()}
        end
     || _ <- [1, 2]
    ],
    [] = events(Config),
    ok = coop:stop(Coop).

a_port_is_given_the_events(Config) ->
    Coop = talks(),
    File = filename:join(proplists:get_value(priv_dir, Config), "events"),
    Port = (dbg:trace_port(file, File))(),
    _ = seq_trace:set_system_tracer(Port),
    set_token(54, [send]),
    ok = coop:relay_data(Coop, datum),
    [datum] = take(1),
    _ = seq_trace:set_token([]),
    _ = sys:get_state(esp_seq_trace),
    _ = seq_trace:set_system_tracer(false),
    ok = file_port_flushed(Port),
    Self = self(),
    Reader = dbg:trace_client(
        file,
        File,
        {
            fun
                (end_of_trace, All) ->
                    Self ! {read, lists:reverse(All)},
                    All;
                (Event, All) ->
                    [Event | All]
            end,
            []
        }
    ),
    [{read, Events}] = take(1),
    true = is_pid(Reader),
    [{0, 1}, {1, 2}, {2, 3}] = lists:sort([S || {seq_trace, 54, {send, S, _, _, _}} <- Events]),
    _ = seq_trace:set_system_tracer(proplists:get_value(tracer, Config)),
    ok = coop:stop(Coop).

file_port_flushed(Port) ->
    true = erlang:port_close(Port),
    ok.

without_a_tracer_the_token_travels_all_the_same(Config) ->
    Coop = start_nodes(nodes_of(to_and_fro), #{}),
    _ = seq_trace:set_system_tracer(false),
    set_token(55),
    ok = coop:relay_data(Coop, datum),
    [datum] = take(1),
    {label, 55} = label(),
    {serial, {5, 6}} = seq_trace:get_token(serial),
    _ = seq_trace:set_system_tracer(proplists:get_value(tracer, Config)),
    [] = events(Config),
    ok = coop:stop(Coop).

%%% Bad input

%% A VM would not survive all of these.
a_token_that_nobody_can_have_made_is_none(_) ->
    Coop = talks(),
    #{nodes := [{talk, Node}]} = coop:info(Coop),
    CNode = esp_node:node(?C_NODE),
    [Alive, _] = string:lexemes(atom_to_list(CNode), "@"),
    {port, Port, _} = erl_epmd:port_please(Alive, {127, 0, 0, 1}),
    Peer = esp_test_dist:dial(#{name => CNode, port => Port}, 'stranger@127.0.0.1'),
    From = esp_test_dist:pid(Peer, 7),
    Bad = [
        [], x, {}, {1, 2, 3, From}, {a, 1, 1, From, 0}, {-1, 1, 1, From, 0}, {64, 1, 1, From, 0},
        {1, 1, a, From, 0}, {1, 1, -1, From, 0}, {1, 1, 1 bsl 59, From, 0},
        {1, 1, 1 bsl 80, From, 0}, {1, 1, 1, "from", 0}, {1, 1, 1, From, -1},
        {1, 1, 1, From, 1 bsl 62}, {1, 1, 1, From, b}, [1, 1, 1, From, 0]
    ],
    [
        begin
            ok = esp_test_dist:send(Peer, {23, From, Node, Token}, {bad, Token}),
            [{bad, Token}] = take(1),
            none = label()
        end
     || Token <- Bad
    ],
    %% the last serial that there can be
    ok = esp_test_dist:send(Peer, {23, From, Node, {3, l, (1 bsl 59) - 1, From, 0}}, last),
    [last] = take(1),
    {serial, {_, Last}} = seq_trace:get_token(serial),
    Last = (1 bsl 59) - 1,
    _ = esp_test_dist:close(Peer),
    ok = coop:stop(Coop).
