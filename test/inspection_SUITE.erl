%% process_info on a C-node: the values of native processes have the shapes that
%% the BEAM's have, and say what is so.
-module(inspection_SUITE).

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2]).

-define(C_NODE, t_inspection).
-define(LIMIT, 10_000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        each_item_has_the_shape_of_the_beams,
        process_info_1_has_the_items_of_the_beams,
        items_are_answered_in_the_order_asked_for,
        what_is_no_item_is_badarg,
        the_dictionary_is_that_of_sys_get_status,
        the_lanes_add_up,
        what_is_called_is_the_current_function,
        a_task_is_named_while_it_runs,
        links_and_monitors_are_there,
        suspended_is_a_status,
        lists_agree_with_each_other
    ].

init_per_suite(Config) ->
    [{c_node, esp_test_c_node:start(?C_NODE)} | Config].

end_per_suite(Config) ->
    esp_test_c_node:stop(proplists:get_value(c_node, Config)).

start(Task) ->
    process_flag(trap_exit, true),
    Template = coop_flow:pipeline([Task, coop:native(b, sums, same, #{})]),
    {ok, Coop} = coop:start_link(Template, #{node => ?C_NODE, receiver => self()}),
    Coop.

start() -> start(coop:native(a, sums, same, #{})).

first(Coop) ->
    #{nodes := [{a, Pid} | _]} = coop:info(Coop),
    Pid.

call(Function, Args) ->
    erpc:call(esp_node:node(?C_NODE), erlang, Function, Args).

info(Pid, Item) -> call(process_info, [Pid, Item]).

items() ->
    [
        current_function, initial_call, status, message_queue_len, links, dictionary,
        trap_exit, error_handler, priority, group_leader, total_heap_size, heap_size, stack_size,
        reductions, garbage_collection, suspending, memory, monitors, monitored_by, binary,
        messages, current_stacktrace, current_location, catchlevel, last_calls,
        sequential_trace_token, trace, message_queue_data, min_heap_size, min_bin_vheap_size,
        fullsweep_after, backtrace, parent
    ].

%% What a value is made of, as far as whoever prints it cares.
shape(Value) when is_boolean(Value) -> boolean;
shape(Value) when is_atom(Value) -> atom;
shape(Value) when is_integer(Value) -> integer;
shape(Value) when is_pid(Value) -> pid;
shape(Value) when is_binary(Value) -> binary;
shape(Value) when is_list(Value) -> list;
shape(Value) when is_tuple(Value) -> {tuple, tuple_size(Value)}.

each_item_has_the_shape_of_the_beams(_) ->
    Coop = start(),
    Local = whereis(kernel_sup),
    [
        begin
            {Item, Beams} = process_info(Local, Item),
            [
                begin
                    {Item, Ours} = info(Pid, Item),
                    {Item, Shape, Shape} = {Item, shape(Beams), shape(Ours)}
                end
             || Pid <- esp_test_lib:pids(Coop)
            ]
        end
        %% a pid or `undefined', and an item of OTP 25 and later
     || Item <- items() -- [parent]
    ],
    [
        begin
            {parent, Parent} = info(Pid, parent),
            true = is_pid(Parent) orelse Parent =:= undefined
        end
     || Pid <- esp_test_lib:pids(Coop)
    ],
    ok = coop:stop(Coop).

process_info_1_has_the_items_of_the_beams(_) ->
    Coop = start(),
    Beams = [Item || {Item, _} <- process_info(self()), Item =/= registered_name],
    Beams = [Item || {Item, _} <- call(process_info, [Coop]), Item =/= registered_name],
    ok = coop:stop(Coop),
    eventually(gone, fun() -> call(process_info, [Coop]) =:= undefined end).

items_are_answered_in_the_order_asked_for(_) ->
    Coop = start(),
    Asked = lists:reverse(items()),
    Asked = [Item || {Item, _} <- info(Coop, Asked)],
    [{registered_name, []}] = info(Coop, [registered_name]),
    [] = info(Coop, registered_name),
    [{status, _}, {status, _}] = info(Coop, [status, status]),
    [] = info(Coop, []),
    ok = coop:stop(Coop).

what_is_no_item_is_badarg(_) ->
    Coop = start(),
    [
        begin
            error = class_of(fun() -> process_info(self(), Bad) end),
            error = class_of(fun() -> info(Coop, Bad) end)
        end
     || Bad <- [no_such_item, [status, no_such_item], 1, [status | links]]
    ],
    error = class_of(fun() -> info(self(), status) end),
    ok = coop:stop(Coop).

class_of(Fun) ->
    try Fun() of
        Value -> {no_error, Value}
    catch
        error:badarg -> error;
        error:{exception, badarg, _} -> error
    end.

the_dictionary_is_that_of_sys_get_status(_) ->
    Coop = start(),
    [
        begin
            {dictionary, Dictionary} = info(Pid, dictionary),
            {status, Pid, _, [Shown | _]} = sys:get_status(Pid),
            true = lists:sort(Shown) =:= lists:sort(Dictionary),
            {_, {_, _, _}} = lists:keyfind('$initial_call', 1, Dictionary),
            {_, Ancestors} = lists:keyfind('$ancestors', 1, Dictionary),
            true = is_list(Ancestors)
        end
     || Pid <- esp_test_lib:pids(Coop)
    ],
    {dictionary, Heads} = info(Coop, dictionary),
    {_, [Parent | _]} = lists:keyfind('$ancestors', 1, Heads),
    Parent = self(),
    ok = coop:stop(Coop).

the_lanes_add_up(_) ->
    Coop = start(),
    A = first(Coop),
    ok = sys:suspend(A),
    [A ! I || I <- [1, 2, 3]],
    Lanes = [message_queue_len, data_queue_len, control_queue_len],
    [{_, 3}, {_, 3}, {_, 0}] = info(A, Lanes),
    ok = sys:resume(A),
    [1, 2, 3] = esp_test_lib:take(3),
    [{_, 0}, {_, 0}, {_, 0}] = info(A, Lanes),
    [{_, 0}, {_, 0}] = [lists:keyfind(L, 1, esp:info(A)) || L <- tl(Lanes)],
    ok = coop:stop(Coop).

what_is_called_is_the_current_function(_) ->
    CNode = esp_node:node(?C_NODE),
    Request = erpc:send_request(CNode, timer, sleep, [infinity]),
    Sleepers = fun() ->
        [
            {Pid, Info}
         || Pid <- call(processes, []),
            Info <- [info(Pid, [current_function, initial_call, current_location, dictionary])],
            is_list(Info),
            {current_function, {timer, sleep, 1}} =:= hd(Info)
        ]
    end,
    eventually(asleep, fun() -> length(Sleepers()) =:= 1 end),
    [{Pid, [_, Initial, Location, Dictionary]}] = Sleepers(),
    {initial_call, {erpc, execute_call, 4}} = Initial,
    {current_location, {timer, sleep, 1, []}} = Location,
    {dictionary, []} = Dictionary,
    {current_task, <<"timer:sleep/1">>} = info(Pid, current_task),
    exit(Pid, kill),
    try erpc:receive_response(Request, ?LIMIT) of
        Value -> ct:fail({answered, Value})
    catch
        exit:{signal, killed} -> ok
    end.

a_task_is_named_while_it_runs(_) ->
    Coop = start(coop:native(a, blocks, count, #{})),
    A = first(Coop),
    A ! {wait, self()},
    Fiber =
        receive
            {waiting, Pid} -> Pid
        after ?LIMIT -> ct:fail(not_waiting)
        end,
    {current_task, <<"blocks:count">>} = info(A, current_task),
    {current_function, {blocks, count, 2}} = info(A, current_function),
    {status, waiting} = info(A, status),
    Fiber ! {go, went},
    [went] = esp_test_lib:take(1),
    {reductions, N} = info(A, reductions),
    true = N > 0,
    ok = coop:stop(Coop).

links_and_monitors_are_there(_) ->
    Coop = start(),
    Ref = monitor(process, Coop),
    {links, Links} = info(Coop, links),
    #{switches := [Switch]} = coop:info(Coop),
    true = lists:member(self(), Links) andalso lists:member(Switch, Links),
    {monitored_by, By} = info(Coop, monitored_by),
    true = lists:member(self(), By),
    demonitor(Ref),
    eventually(not_monitored, fun() ->
        {monitored_by, Now} = info(Coop, monitored_by),
        not lists:member(self(), Now)
    end),
    {group_leader, Leader} = info(Coop, group_leader),
    true = is_pid(Leader),
    {trap_exit, Traps} = info(Coop, trap_exit),
    true = is_boolean(Traps),
    ok = coop:stop(Coop).

suspended_is_a_status(_) ->
    Coop = start(),
    A = first(Coop),
    {status, waiting} = info(A, status),
    ok = sys:suspend(A),
    %% as of a gen_server: to the scheduler it waits
    {status, Status} = info(A, status),
    true = lists:member(Status, [waiting, suspended]),
    {suspending, []} = info(A, suspending),
    ok = sys:resume(A),
    ok = coop:stop(Coop).

lists_agree_with_each_other(_) ->
    Coop = start(),
    All = call(processes, []),
    [
        begin
            true = lists:member(Pid, All),
            true = call(is_process_alive, [Pid])
        end
     || Pid <- esp_test_lib:pids(Coop)
    ],
    Names = call(registered, []),
    [
        begin
            Pid = call(whereis, [Name]),
            {registered_name, Name} = info(Pid, registered_name)
        end
     || Name <- Names
    ],
    true = lists:member(rex, Names),
    undefined = call(whereis, [nobody]),
    ok = coop:stop(Coop),
    eventually(gone, fun() -> not call(is_process_alive, [Coop]) end).
