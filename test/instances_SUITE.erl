%% Several instances of a template behind one head, in every home: a first and a
%% last node on one VM, on one C-node, and on either side.
-module(instances_SUITE).

-export([all/0, groups/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2, take/1, take/2, mailbox/0, down/1, pids/1, monitors/1, pid/2]).

-define(C_NODE, t_instances).
-define(LIMIT, 20_000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Group} || Group <- [vm, native, vm_to_native, native_to_vm]] ++
        [
            bad_options_are_named,
            the_names_of_many_instances_must_fit,
            mistakes_are_named_by_the_templates_names,
            a_c_node_takes_no_spec_without_sense
        ].

groups() ->
    [
        {vm, [], everywhere() ++ head_on_vm() ++ [a_task_names_nodes_of_its_instance]},
        {native, [], everywhere() ++ native_head()},
        {vm_to_native, [], everywhere() ++ head_on_vm() ++ [a_task_names_nodes_of_its_instance]},
        {native_to_vm, [], everywhere() ++ native_head()}
    ].

everywhere() ->
    [
        round_robin_is_the_default,
        broadcast_reaches_all_instances_in_order,
        random_and_shuffle_take_all_instances,
        equal_keys_go_to_one_instance_in_order,
        one_instance_is_no_exception,
        each_datum_goes_to_all_entries_of_its_instance,
        select_and_hash_stay_inside_their_instance,
        info_shows_every_node_by_a_name_of_its_own,
        a_flush_leaves_all_instances,
        control_is_answered_while_the_chosen_instance_is_full,
        a_flush_waits_for_what_the_head_could_not_send,
        priority_data_overtake_what_the_head_could_not_send,
        least_loaded_passes_by_a_stopped_instance,
        least_loaded_waits_for_all_entries_of_one_instance,
        what_drop_oldest_drops_is_counted,
        what_belongs_to_no_instance_is_a_dead_letter,
        a_call_has_one_reply,
        results_are_asked_for_from_all_instances,
        a_batch_is_full_or_flushed,
        a_clone_has_as_many,
        a_supervised_coop_comes_back_with_all_instances,
        a_node_that_ends_takes_all_instances_along,
        a_body_made_again_goes_on_with_what_waited,
        an_init_that_fails_leaves_nothing_behind,
        stop_leaves_nothing
    ].

head_on_vm() ->
    [a_fun_may_choose_the_key, a_fun_that_fails_costs_its_datum_alone].

native_head() ->
    [a_fun_for_a_native_head_is_refused, a_key_whose_data_are_gone_holds_up_no_other].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

%% The homes of the first and of the last node.
init_per_group(vm, Config) -> [{homes, {vm, vm}} | Config];
init_per_group(native, Config) -> [{homes, {native, native}} | Config];
init_per_group(vm_to_native, Config) -> [{homes, {vm, native}} | Config];
init_per_group(native_to_vm, Config) -> [{homes, {native, vm}} | Config].

end_per_group(_, _) -> ok.

%%% Helpers

%% Gives {Pid, Datum}, so that it can be told which instance a datum went through.
by(vm, Name) -> coop:task(Name, fun(S, D) -> {S, {self(), D}} end, #{});
by(native, Name) -> coop:native(Name, routes, by, #{}).

template(Config) ->
    {First, Last} = proplists:get_value(homes, Config),
    coop_flow:pipeline([by(First, first), by(Last, last)]).

start(Config, N, More) -> start_of(template(Config), More#{instances => N}).

start_of(Template, More) ->
    process_flag(trap_exit, true),
    {ok, Coop} = coop:start_link(Template, maps:merge(#{node => ?C_NODE, receiver => self()}, More)),
    Coop.

stop(Coop) ->
    ok = coop:stop(Coop),
    [{'EXIT', Coop, normal}] = mailbox(),
    ok.

suspend(Coop, Name) ->
    Pid = pid(Coop, Name),
    ok = sys:suspend(Pid),
    Pid.

%% Which instance each node is of.
places(Coop) ->
    #{nodes := Nodes} = coop:info(Coop),
    maps:from_list([
        {Pid, list_to_integer(tl(string:find(atom_to_list(Name), "/", trailing)))}
     || {Name, Pid} <- Nodes
    ]).

%% The instance, which is one for both nodes, and the datum.
placed({Last, {First, Datum}}, Places) ->
    #{First := I, Last := I} = Places,
    {I, Datum}.

%% What each instance gave, in order.
parts(Coop, N, Got) ->
    Places = places(Coop),
    Placed = [placed(Each, Places) || Each <- Got],
    [[D || {At, D} <- Placed, At =:= I] || I <- lists:seq(1, N)].

dealt(Config, N, More, Data) ->
    Coop = start(Config, N, More),
    ok = coop:relay_batch(Coop, Data),
    ok = coop:flush(Coop, ?LIMIT),
    Parts = parts(Coop, N, mailbox()),
    stop(Coop),
    Parts.

where(Coop, Datum) ->
    {ok, Result} = coop:call(Coop, Datum, ?LIMIT),
    {I, Datum} = placed(Result, places(Coop)),
    I.

%% Two keys of different instances.
two_keys(Coop) ->
    [{I, A} | Others] = [{where(Coop, {K, 0}), K} || K <- lists:seq(1, 50)],
    [{J, B} | _] = [Other || {At, _} = Other <- Others, At =/= I],
    {{I, A}, {J, B}}.

is_blocked(Coop) -> maps:get(blocked, coop:info(Coop)).

collect(Got) ->
    receive
        {all, From, N} when length(Got) =:= N -> From ! {all, self(), lists:reverse(Got)};
        {Pid, Datum} when is_pid(Pid) -> collect([{Pid, Datum} | Got])
    end.

%%% Which instance

round_robin_is_the_default(Config) ->
    [[1, 4, 7], [2, 5, 8], [3, 6, 9]] = dealt(Config, 3, #{}, lists:seq(1, 9)).

broadcast_reaches_all_instances_in_order(Config) ->
    Data = lists:seq(1, 500),
    [Data, Data, Data] = dealt(Config, 3, #{dataflow => broadcast}, Data).

random_and_shuffle_take_all_instances(Config) ->
    Data = lists:seq(1, 2000),
    Random = dealt(Config, 4, #{dataflow => random}, Data),
    Data = lists:sort(lists:append(Random)),
    %% 500 each, within 6 standard deviations
    [{true, P} = {abs(length(P) - 500) < 120 andalso P =:= lists:sort(P), P} || P <- Random],
    Shuffled = dealt(Config, 4, #{dataflow => shuffle}, Data),
    Rounds = lists:seq(0, 499),
    [Rounds = [(D - 1) div 4 || D <- P] || P <- Shuffled].

equal_keys_go_to_one_instance_in_order(Config) ->
    Tuples = [{x, I rem 17, I} || I <- lists:seq(1, 400)],
    Maps = [#{k => K, v => V} || {x, K, V} <- Tuples],
    [
        goes_by(Config, Part, Data, Key)
     || {Part, Data, Key} <- [
            {{element, 2}, Tuples, fun({x, K, _}) -> K end},
            {{key, k}, Maps, fun(#{k := K}) -> K end},
            {all, [K || {x, K, _} <- Tuples], fun(K) -> K end}
        ]
    ].

goes_by(Config, Part, Data, Key) ->
    Parts = dealt(Config, 4, #{dataflow => {hash, Part}}, Data),
    Keys = length(lists:usort(lists:map(Key, Data))),
    Keys = length(lists:append([lists:usort(lists:map(Key, P)) || P <- Parts])),
    true = length([P || P <- Parts, P =/= []]) > 1,
    [P = [D || D <- Data, lists:member(D, P)] || P <- Parts].

a_fun_may_choose_the_key(Config) ->
    Tens = fun(X) -> X div 10 end,
    goes_by(Config, Tens, lists:seq(0, 299), Tens).

a_fun_that_fails_costs_its_datum_alone(Config) ->
    [
        begin
            Coop = start(Config, 2, #{
                dataflow => {hash, fun(X) -> 1 / X end}, dead_letter => self(), restart => Restart
            }),
            {error, badarith} = coop:call(Coop, 0, ?LIMIT),
            ok = coop:relay_batch(Coop, [1, nothing, 2]),
            ok = coop:flush(Coop, ?LIMIT),
            {Letters, Got} = lists:partition(
                fun(M) -> element(1, M) =:= coop_dead_letter end, mailbox()
            ),
            [0, nothing] = [D || {coop_dead_letter, _, head, D, badarith} <- Letters],
            [1, 2] = lists:sort(lists:append(parts(Coop, 2, Got))),
            #{restarts := 0, dropped := 2, dead_lettered := 2} = coop:info(Coop),
            stop(Coop)
        end
     || Restart <- [none, body]
    ].

a_fun_for_a_native_head_is_refused(Config) ->
    {error, {native_needs, {hash, [all, element, key]}}} = coop:start_link(template(Config), #{
        node => ?C_NODE, instances => 2, dataflow => {hash, fun(X) -> X end}
    }).

%% Nor is its name another than the template's.
one_instance_is_no_exception(Config) ->
    [
        begin
            Coop = start(Config, 1, #{dataflow => Method}),
            #{instances := 1, dataflow := Method, nodes := [{first, F}, {last, L}]} =
                coop:info(Coop),
            ok = coop:relay_batch(Coop, [a, b]),
            ok = coop:flush(Coop, ?LIMIT),
            [{L, {F, a}}, {L, {F, b}}] = mailbox(),
            stop(Coop)
        end
     || Method <- [broadcast, round_robin, random, shuffle, least_loaded, {hash, all}]
    ].

%% Entries in both homes, where there are two.
two_entries(Config) ->
    {First, Last} = proplists:get_value(homes, Config),
    coop_flow:graph([by(First, first), by(Last, second), by(Last, last)], [
        {first, last}, {second, last}
    ]).

each_datum_goes_to_all_entries_of_its_instance(Config) ->
    Data = lists:seq(1, 300),
    [
        begin
            Coop = start_of(two_entries(Config), #{instances => 3, dataflow => Method}),
            ok = coop:relay_batch(Coop, Data),
            ok = coop:flush(Coop, ?LIMIT),
            Parts = parts(Coop, 3, mailbox()),
            Twice = lists:sort(Data ++ Data),
            Twice = lists:sort(lists:append(Parts)),
            %% both times through the same one
            Data = lists:sort(lists:append([lists:usort(P) || P <- Parts])),
            [true = P =/= [] || P <- Parts],
            stop(Coop)
        end
     || Method <- [round_robin, random, shuffle, least_loaded, {hash, all}]
    ].

%% Inside an instance the names are the template's.
select_and_hash_stay_inside_their_instance(Config) ->
    {First, Last} = proplists:get_value(homes, Config),
    [
        begin
            Router =
                case First of
                    vm -> coop:task(router, fun(S, D) -> {S, D} end, #{dataflow => Method});
                    native -> coop:native(router, routes, same, #{dataflow => Method})
                end,
            T = coop_flow:fanout(Router, [by(Last, left), by(Last, right)], by(Last, last)),
            Coop = start_of(T, #{instances => 2}),
            Data = [{lists:nth(I rem 3 + 1, [left, right, left]), I} || I <- lists:seq(1, 40)],
            ok = coop:relay_batch(Coop, Data),
            ok = coop:flush(Coop, ?LIMIT),
            Got = mailbox(),
            [Odd, Even] = parts(Coop, 2, Got),
            [
                Is = lists:sort(Is)
             || Key <- [left, right], P <- [Odd, Even], Is <- [[I || {To, I} <- P, To =:= Key]]
            ],
            [[1], [0]] = [lists:usort([I rem 2 || {_, I} <- P]) || P <- [Odd, Even]],
            #{nodes := Nodes} = coop:info(Coop),
            Went = [{element(1, lists:keyfind(W, 2, Nodes)), To} || {_, {W, {To, _}}} <- Got],
            ok = chosen(Method, lists:usort(Went)),
            stop(Coop)
        end
     || Method <- [{select, {element, 1}}, {hash, {element, 1}}]
    ].

%% A key goes to nodes of the same name in all instances.
chosen({select, _}, Went) ->
    [{'left/1', left}, {'left/2', left}, {'right/1', right}, {'right/2', right}] = Went,
    ok;
chosen({hash, _}, Went) ->
    [
        [_] = lists:usort([hd(string:split(atom_to_list(N), "/")) || {N, To} <- Went, To =:= Key])
     || Key <- [left, right]
    ],
    4 = length(Went),
    ok.

base(Base, I) -> list_to_atom(atom_to_list(Base) ++ "/" ++ integer_to_list(I)).

is(Base, Name) -> lists:prefix(atom_to_list(Base) ++ "/", atom_to_list(Name)).

a_task_names_nodes_of_its_instance(Config) ->
    {vm, Last} = proplists:get_value(homes, Config),
    Router = coop:task(router, fun(S, {To, _} = D) -> {S, to, [{To, D}]} end, #{}),
    T = coop_flow:fanout(Router, [by(Last, left), by(Last, right)], none),
    Coop = start_of(T, #{instances => 2}),
    ok = coop:relay_batch(Coop, [{left, 1}, {left, 2}, {right, 3}, {right, 4}]),
    ok = coop:flush(Coop, ?LIMIT),
    Got = mailbox(),
    [
        Name = element(1, lists:keyfind(Pid, 2, maps:get(nodes, coop:info(Coop))))
     || {I, Name} <- [{1, 'left/1'}, {2, 'left/2'}, {3, 'right/1'}, {4, 'right/2'}],
        {Pid, {_, J}} <- Got,
        I =:= J
    ],
    4 = length(Got),
    stop(Coop).

info_shows_every_node_by_a_name_of_its_own(Config) ->
    Coop = start(Config, 2, #{dataflow => shuffle}),
    #{
        instances := 2,
        dataflow := shuffle,
        nodes := [{'first/1', _}, {'last/1', _}, {'first/2', _}, {'last/2', Pid}],
        edges := [{'first/1', 'last/1'}, {'first/2', 'last/2'}]
    } = coop:info(Coop),
    #{name := 'last/2'} = coop_process:ask(Pid, info, ?LIMIT),
    {match, _} = re:run(coop_flow:to_dot(Coop), "\"first/2\" -> \"last/2\""),
    stop(Coop).

%%% Barriers

a_flush_leaves_all_instances(Config) ->
    {_, Last} = proplists:get_value(homes, Config),
    Sum =
        case Last of
            vm ->
                coop:task(sum, fun(S, D) -> {S + D} end, #{
                    init => fun() -> 0 end, flush => fun(S) -> {S, S} end
                });
            native ->
                coop:native(sum, sums, total, #{args => 0})
        end,
    {First, _} = proplists:get_value(homes, Config),
    Same =
        case First of
            vm -> coop:task(same, fun(S, D) -> {S, D} end, #{});
            native -> coop:native(same, routes, same, #{})
        end,
    Coop = start_of(coop_flow:pipeline([Same, Sum]), #{instances => 3}),
    ok = coop:relay_batch(Coop, [1, 10, 100, 2, 20, 200]),
    ok = coop:flush(Coop, ?LIMIT),
    [3, 30, 300] = lists:sort(mailbox()),
    %% its turns go on
    ok = coop:relay_batch(Coop, [4, 40]),
    ok = coop:flush(Coop, ?LIMIT),
    [7, 70, 300] = lists:sort(mailbox()),
    stop(Coop).

%%% A full instance

%% Relays until there is no credit any more: the head is full, as far as it can be.
fill(Coop, Data) ->
    Relayer = spawn_link(fun() -> ok = coop:relay_batch(Coop, Data) end),
    eventually({to_wait_for_credit, Relayer}, fun() ->
        {current_stacktrace, Stack} = process_info(Relayer, current_stacktrace),
        lists:keymember(coop_credit, 1, Stack) andalso
            process_info(Relayer, status) =:= {status, waiting}
    end).

control_is_answered_while_the_chosen_instance_is_full(Config) ->
    Data = lists:seq(1, 6000),
    [
        begin
            %% it takes results whatever this process does
            Receiver = spawn_link(fun() -> collect([]) end),
            Coop = start(Config, 3, #{dataflow => Method, window => 5, receiver => Receiver}),
            Stopped = suspend(Coop, 'first/2'),
            fill(Coop, Data),
            %% control overtakes data: the question could be the first to be heard
            eventually(blocked, fun() -> is_blocked(Coop) end),
            #{blocked := true, queue := Queue, status := running} = coop:info(Coop),
            true = Queue > 100,
            #{instances := 3} = sys:get_state(Coop),
            {status, Coop, _, _} = sys:get_status(Coop),
            ok = sys:suspend(Coop),
            ok = sys:resume(Coop),
            ok = sys:resume(Stopped),
            Receiver ! {all, self(), length(Data)},
            Parts = parts(Coop, 3, take(all, Receiver)),
            Data = lists:sort(lists:append(Parts)),
            [P = lists:sort(P) || P <- Parts],
            ok = kept(Method, Parts),
            ok = coop:stop(Coop),
            _ = mailbox()
        end
     || Method <- [round_robin, shuffle, random, {hash, all}]
    ].

kept(round_robin, Parts) ->
    [[I] = lists:usort([D rem 3 || D <- P]) || {I, P} <- lists:zip([1, 2, 0], Parts)],
    ok;
kept(shuffle, Parts) ->
    [Rounds, Rounds, Rounds] = [[(D - 1) div 3 || D <- P] || P <- Parts],
    ok;
kept(_, _Parts) ->
    ok.

%% The head has 4 in its hands, which is the second instance's, with 5 and 6 behind it.
stuck(Config) ->
    Coop = start(Config, 2, #{window => 1}),
    Stopped = suspend(Coop, 'first/2'),
    ok = coop:relay_batch(Coop, [1, 2, 3, 4, 5, 6]),
    Got = take(2),
    [[1, 3], []] = parts(Coop, 2, Got),
    eventually(blocked, fun() -> is_blocked(Coop) end),
    {Coop, Stopped, Got}.

a_flush_waits_for_what_the_head_could_not_send(Config) ->
    {Coop, Stopped, Got} = stuck(Config),
    Self = self(),
    Flusher = spawn_link(fun() -> Self ! {flushed, self(), coop:flush(Coop, ?LIMIT)} end),
    eventually(flush_there, fun() -> maps:get(queue, coop:info(Coop)) >= 3 end),
    [] = mailbox(),
    ok = sys:resume(Stopped),
    [[1, 3, 5], [2, 4, 6]] = parts(Coop, 2, Got ++ take(4)),
    ok = take(flushed, Flusher),
    ok = coop:stop(Coop),
    _ = mailbox().

priority_data_overtake_what_the_head_could_not_send(Config) ->
    {Coop, Stopped, Got} = stuck(Config),
    ok = coop:relay_high_priority_data(Coop, urgent),
    eventually(urgent_there, fun() -> maps:get(queue, coop:info(Coop)) >= 3 end),
    ok = sys:resume(Stopped),
    ok = coop:flush(Coop, ?LIMIT),
    Parts = parts(Coop, 2, Got ++ mailbox()),
    [1, 2, 3, 4, 5, 6, urgent] = lists:sort(lists:append(Parts)),
    [Part] = [P || P <- Parts, lists:member(urgent, P)],
    [] = [D || D <- lists:takewhile(fun(D) -> D =/= urgent end, Part), D > 4],
    stop(Coop).

%% All but what fits on the way to the one that stands still.
least_loaded_passes_by_a_stopped_instance(Config) ->
    Coop = start(Config, 3, #{dataflow => least_loaded, window => 5}),
    Stopped = suspend(Coop, 'first/2'),
    Data = lists:seq(1, 5000),
    ok = coop:relay_batch(Coop, Data),
    Passed = take(4995),
    [_, [], _] = parts(Coop, 3, Passed),
    ok = sys:resume(Stopped),
    ok = coop:flush(Coop, ?LIMIT),
    Parts = parts(Coop, 3, Passed ++ mailbox()),
    [P = lists:sort(P) || P <- Parts],
    Data = lists:sort(lists:append(Parts)),
    stop(Coop).

%% One full entry is a full instance; and when all are full, any will do.
least_loaded_waits_for_all_entries_of_one_instance(Config) ->
    %% it takes results whatever this process does
    Receiver = spawn_link(fun() -> collect([]) end),
    Coop = start_of(two_entries(Config), #{
        instances => 2, dataflow => least_loaded, window => 5, receiver => Receiver
    }),
    One = suspend(Coop, 'second/1'),
    ok = coop:relay_batch(Coop, lists:seq(1, 500)),
    %% what the first instance has waits for its second entry or has come by the other
    eventually(all_entered, fun() -> maps:get(in, coop:info(Coop)) =:= 500 end),
    eventually(not_blocked, fun() -> not is_blocked(Coop) end),
    Two = suspend(Coop, 'first/2'),
    ok = coop:relay_batch(Coop, lists:seq(501, 600)),
    eventually(blocked, fun() -> is_blocked(Coop) end),
    ok = sys:resume(One),
    eventually(all_entered, fun() -> maps:get(in, coop:info(Coop)) =:= 600 end),
    ok = sys:resume(Two),
    Receiver ! {all, self(), 1200},
    [First, Second] = parts(Coop, 2, take(all, Receiver)),
    Data = lists:seq(1, 600),
    Data = lists:sort(lists:usort(First) ++ lists:usort(Second)),
    true = length([D || D <- lists:usort(First), D =< 500]) =< 5,
    true = length([D || D <- lists:usort(Second), D > 500]) =< 5,
    ok = coop:stop(Coop),
    _ = mailbox().

%%% Data that are dropped

what_drop_oldest_drops_is_counted(Config) ->
    Coop = start(Config, 2, #{
        dataflow => {hash, {element, 1}}, window => 1, overload => drop_oldest, max_queue => 10
    }),
    {{I, A}, _} = two_keys(Coop),
    Stopped = full_for(A, I, Coop),
    ok = coop:relay_batch(Coop, [{A, N} || N <- lists:seq(3, 40)]),
    eventually(dropped, fun() ->
        #{queue := Queue, dropped := Dropped} = coop:info(Coop),
        Queue =:= 10 andalso Dropped >= 28
    end),
    #{dropped := Dropped, overloaded := Dropped} = coop:info(Coop),
    ok = sys:resume(Stopped),
    Got = lists:nth(I, parts(Coop, 2, take(40 - Dropped))),
    [{A, 1} | _] = Got,
    Got = lists:sort(Got),
    {A, 40} = lists:last(Got),
    ok = coop:flush(Coop, ?LIMIT),
    stop(Coop).

%% The head has the second datum of a key, whose instance stands still with the first.
full_for(Key, I, Coop) ->
    Stopped = suspend(Coop, base(first, I)),
    ok = coop:relay_data(Coop, {Key, 1}),
    ok = coop:relay_data(Coop, {Key, 2}),
    eventually(blocked, fun() -> is_blocked(Coop) end),
    Stopped.

%% Neither a datum that was dropped, nor one that another has overtaken.
a_key_whose_data_are_gone_holds_up_no_other(Config) ->
    Coop = start(Config, 2, #{
        dataflow => {hash, {element, 1}}, window => 1, overload => drop_oldest, max_queue => 10
    }),
    {{I, A}, {J, B}} = two_keys(Coop),
    Stopped = full_for(A, I, Coop),
    ok = coop:relay_batch(Coop, [{A, N} || N <- lists:seq(3, 11)]),
    ok = coop:relay_high_priority_data(Coop, {B, 1}),
    Urgent = take(1),
    Data = [{B, N} || N <- lists:seq(2, 11)],
    ok = coop:relay_batch(Coop, Data),
    Passed = take(10),
    Data2 = [{B, 1} | Data],
    Data2 = lists:nth(J, parts(Coop, 2, Urgent ++ Passed)),
    ok = sys:resume(Stopped),
    ok = coop:flush(Coop, ?LIMIT),
    [{A, 1}] = lists:nth(I, parts(Coop, 2, mailbox())),
    #{dropped := 10} = coop:info(Coop),
    stop(Coop).

what_belongs_to_no_instance_is_a_dead_letter(Config) ->
    Coop = start(Config, 2, #{dataflow => {hash, {element, 2}}, dead_letter => self()}),
    Reason = {no_part, {element, 2}, {x}},
    ok = coop:relay_data(Coop, {x}),
    {error, Reason} = coop:call(Coop, {x}, ?LIMIT),
    _ = where(Coop, {x, y}),
    ok = coop:flush(Coop, ?LIMIT),
    Letter = {coop_dead_letter, Coop, head, {x}, Reason},
    [Letter, Letter] = mailbox(),
    #{in := 3, dropped := 2, dead_lettered := 2, queue := 0} = coop:info(Coop),
    stop(Coop).

%%% With the other options

a_call_has_one_reply(Config) ->
    Coop = start(Config, 3, #{dataflow => broadcast}),
    Places = places(Coop),
    [
        begin
            {ok, Result} = coop:call(Coop, I, ?LIMIT),
            {_, I} = placed(Result, Places)
        end
     || I <- lists:seq(1, 20)
    ],
    ok = coop:flush(Coop, ?LIMIT),
    stop(Coop).

results_are_asked_for_from_all_instances(Config) ->
    Coop = start(Config, 3, #{receiver => {demand, self()}}),
    ok = coop:relay_batch(Coop, [1, 2, 3, 4, 5, 6]),
    eventually(ready, fun() -> maps:get(ready, maps:get(demand, coop:info(Coop))) =:= 3 end),
    [] = mailbox(),
    ok = coop:ask(Coop, 3),
    [[1], [2], [3]] = parts(Coop, 3, take(3)),
    ok = coop:ask(Coop, 3),
    [[4], [5], [6]] = parts(Coop, 3, take(3)),
    stop(Coop).

a_batch_is_full_or_flushed(Config) ->
    Coop = start(Config, 3, #{batch => 10}),
    Data = lists:seq(1, 100),
    ok = coop:relay_batch(Coop, Data),
    ok = coop:flush(Coop, ?LIMIT),
    Batches = mailbox(),
    [true = length(Batch) =< 10 || {coop_batch, Head, Batch} <- Batches, Head =:= Coop],
    Parts = parts(Coop, 3, lists:append([Batch || {coop_batch, _, Batch} <- Batches])),
    [P = lists:sort(P) || P <- Parts],
    Data = lists:sort(lists:append(Parts)),
    stop(Coop).

a_clone_has_as_many(Config) ->
    Coop = start(Config, 3, #{dataflow => shuffle, name => instances_to_clone}),
    {ok, Clone} = coop:clone(Coop),
    #{instances := 3, dataflow := shuffle} = coop:info(Clone),
    stop(Clone),
    stop(Coop).

a_supervised_coop_comes_back_with_all_instances(Config) ->
    process_flag(trap_exit, true),
    {ok, Sup} = supervisor:start_link(esp_test_sup, {#{}, [
        coop:child_spec(#{
            id => several,
            name => several,
            template => template(Config),
            node => ?C_NODE,
            instances => 2,
            dataflow => {hash, all}
        })
    ]}),
    Head = coop:head(several),
    [Ref] = monitors([Head]),
    exit(pid(several, 'last/2'), kill),
    killed = down(Ref),
    eventually(restarted, fun() ->
        coop:is_live(several) andalso coop:head(several) =/= Head
    end),
    #{instances := 2, dataflow := {hash, all}} = coop:info(several),
    _ = where(several, 7),
    unlink(Sup),
    [Gone] = monitors([Sup]),
    exit(Sup, shutdown),
    shutdown = down(Gone),
    _ = mailbox().

%%% Ends

a_node_that_ends_takes_all_instances_along(Config) ->
    [
        begin
            Coop = start(Config, 3, #{}),
            Refs = monitors(pids(Coop)),
            exit(pid(Coop, Name), boom),
            [boom = down(Ref) || Ref <- Refs],
            [{'EXIT', Coop, boom}] = mailbox()
        end
     || Name <- ['first/1', 'last/2', 'first/3']
    ].

%% What waits at the head and in the instances; what a node on a VM had when it was
%% killed is counted.
a_body_made_again_goes_on_with_what_waited(Config) ->
    [
        begin
            Coop = start(Config, 3, #{
                window => 5, restart => body, dataflow => Method, dead_letter => self()
            }),
            Nodes = maps:get(nodes, coop:info(Coop)),
            _ = suspend(Coop, 'first/1'),
            _ = suspend(Coop, 'first/2'),
            _ = suspend(Coop, 'first/3'),
            Data = [{K, K} || K <- lists:seq(1, 300)],
            ok = coop:relay_batch(Coop, Data),
            eventually(blocked, fun() -> is_blocked(Coop) end),
            exit(pid(Coop, 'first/2'), boom),
            eventually(restarted, fun() -> maps:get(restarts, coop:info(Coop)) =:= 1 end),
            #{nodes := Nodes2, losses := #{lost := Lost, dead_lettered := 0}} = coop:info(Coop),
            [] = Nodes -- (Nodes -- Nodes2),
            true = [Name || {Name, _} <- Nodes] =:= [Name || {Name, _} <- Nodes2],
            ok = coop:flush(Coop, ?LIMIT),
            Parts = parts(Coop, 3, mailbox()),
            [P = lists:usort(P) || P <- Parts],
            300 = length(lists:usort(lists:append(Parts))) + Lost,
            [] = lists:append(Parts) -- Data,
            true = Lost =< 5,
            stop(Coop)
        end
     || Method <- [round_robin, {hash, {element, 1}}, least_loaded]
    ].

an_init_that_fails_leaves_nothing_behind(Config) ->
    {First, Last} = proplists:get_value(homes, Config),
    Failing =
        case Last of
            vm -> coop:task(last, fun(S, D) -> {S, D} end, #{init => fun() -> exit(no_init) end});
            native -> coop:native(last, sums, no_init, #{args => 0})
        end,
    Before = esp_test_c_node:processes(?C_NODE),
    {error, {init, Name, _}} = coop:start_link(
        coop_flow:pipeline([by(First, first), Failing]), #{node => ?C_NODE, instances => 3}
    ),
    true = is(last, Name),
    esp_test_c_node:settled(?C_NODE, Before).

stop_leaves_nothing(Config) ->
    Before = esp_test_c_node:processes(?C_NODE),
    Coop = start(Config, 5, #{window => 2}),
    _ = suspend(Coop, 'first/4'),
    ok = coop:relay_batch(Coop, lists:seq(1, 200)),
    eventually(blocked, fun() -> is_blocked(Coop) end),
    Refs = monitors(pids(Coop)),
    ok = coop:stop(Coop, shutdown, ?LIMIT),
    [shutdown = down(Ref) || Ref <- Refs],
    _ = mailbox(),
    esp_test_c_node:settled(?C_NODE, Before).

%%% Mistakes

bad_options_are_named(_) ->
    T = template([{homes, {vm, vm}}]),
    [
        {error, {bad_option, {Key, Value}}} = coop:start_link(T, #{Key => Value})
     || {Key, Value} <- [
            {instances, 0},
            {instances, -1},
            {instances, 1.0},
            {instances, many},
            {dataflow, consume},
            {dataflow, {consume, {2, 1, 2}}},
            {dataflow, {select, all}},
            {dataflow, {select, {element, 1}}},
            {dataflow, {hash, tens}},
            {dataflow, {hash, {element, 0}}},
            {dataflow, {hash, fun() -> 1 end}},
            {dataflow, fastest},
            {dataflow, undefined}
        ]
    ].

the_names_of_many_instances_must_fit(_) ->
    T = template([{homes, {vm, vm}}]),
    [
        {error, {too_many_nodes, 10_000}} = coop:start_link(T, #{instances => N})
     || N <- [5_001, 1 bsl 100]
    ],
    Long = list_to_atom(lists:duplicate(254, $a)),
    {error, {bad_name, Long}} =
        coop:start_link(coop_flow:pipeline([by(vm, Long)]), #{instances => 10}),
    %% names are told apart, whatever they are
    {ok, Coop} = coop:start_link(
        coop_flow:graph([by(vm, N) || N <- [a, 'a/1', 'a/1/1', '']], []), #{instances => 2}
    ),
    #{nodes := Nodes} = coop:info(Coop),
    8 = length(lists:usort([Name || {Name, _} <- Nodes])),
    ok = coop:stop(Coop).

mistakes_are_named_by_the_templates_names(_) ->
    [
        {error, Reason} = coop:start_link(coop_flow:pipeline(Nodes), #{
            node => ?C_NODE, instances => 2
        })
     || {Reason, Nodes} <- [
            {{bad_node, a, {no_task, routes, nothing}}, [coop:native(a, routes, nothing, #{})]},
            {{bad_node, a, {no_plugin, nowhere}}, [coop:native(a, nowhere, same, #{})]},
            {{bad_node, a, {bad_option, stuck}}, [coop:native(a, routes, same, #{stuck => 1})]},
            {{type_mismatch, a, b}, [
                coop:native(a, routes, text, #{}), coop:native(b, routes, tens, #{})
            ]}
        ]
    ].

%% Whoever it comes from: what would route data to nowhere is no spec.
a_c_node_takes_no_spec_without_sense(_) ->
    Node = fun(Name) ->
        #{name => Name, home => native, plugin => routes, task => by, dataflow => broadcast}
    end,
    Spec = fun(Nodes, Edges, More) ->
        maps:merge(#{nodes => [Node(Name) || Name <- Nodes], edges => Edges}, More)
    end,
    [
        Reply = gen_server:call({erlangsp, esp_node:node(?C_NODE)}, {check, Checked})
     || {Reply, Checked} <- [
            {ok, Spec([a, b], [], #{instances => 2, dataflow => {hash, all}})},
            {ok, Spec([a, b], [{a, b}], #{})} |
            [
                {{error, {bad_spec, What}}, Bad}
             || {What, Bad} <- [
                    {instances, Spec([a, b], [], #{instances => 0})},
                    {instances, Spec([a, b], [], #{instances => two})},
                    {instances, Spec([a, b], [], #{instances => 3})},
                    %% an entry in the first and none in the second
                    {instances, Spec([a, b], [{a, b}], #{instances => 2})},
                    {instances, Spec([a, b, c, d], [{c, b}, {c, d}], #{instances => 2})},
                    {instances, Spec([a, b], [{a, b}, {b, a}], #{})},
                    {dataflow, Spec([a, b], [], #{instances => 2, dataflow => consume})},
                    {dataflow, Spec([a], [], #{dataflow => {select, all}})},
                    {dataflow, Spec([a], [], #{dataflow => {hash, by}})},
                    {node, Spec([], [], #{nodes => [(Node(a))#{base => 7}]})}
                ]
            ]
        ]
    ].
