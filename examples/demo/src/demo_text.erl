%% A text as a sequence of chunks that begin and end between words, as the task
%% `split' wants them.
-module(demo_text).

-export([open/1]).
-export([next/1]).
-export([close/1]).

-define(CHUNK, 32 * 1024).
-define(IS_SEPARATOR(C), (C =:= $\s orelse C =:= $\t orelse C =:= $\n)).

%% `carry' is the beginning of a word whose end has not been read yet.
-record(text, {device :: file:fd(), is_new = true :: boolean(), carry = [] :: iolist()}).
-opaque text() :: #text{}.
-export_type([text/0]).

-spec open(file:filename()) -> text().
open(File) ->
    {ok, Device} = file:open(File, [read, raw, binary]),
    #text{device = Device}.

-spec close(text()) -> ok.
close(#text{device = Device}) ->
    ok = file:close(Device).

%% @doc The next chunk. A text that begins with a separator has an empty chunk
%% ahead of the rest.
-spec next(text()) -> {Chunk :: binary(), text()} | eof.
next(Text = #text{device = Device, is_new = IsNew, carry = Carry}) ->
    case file:read(Device, ?CHUNK) of
        {ok, <<C, _/binary>>} when IsNew, ?IS_SEPARATOR(C) ->
            {ok, 0} = file:position(Device, 0),
            {<<>>, Text#text{is_new = false}};
        {ok, Bytes} ->
            case cut(Bytes, byte_size(Bytes)) of
                {Whole, Rest} ->
                    {iolist_to_binary([Carry, Whole]), Text#text{is_new = false, carry = [Rest]}};
                none ->
                    next(Text#text{is_new = false, carry = [Carry, Bytes]})
            end;
        eof ->
            case iolist_to_binary(Carry) of
                <<>> -> eof;
                Last -> {Last, Text#text{carry = []}}
            end
    end.

%% After the last separator.
cut(_Bytes, 0) ->
    none;
cut(Bytes, N) ->
    case binary:at(Bytes, N - 1) of
        C when ?IS_SEPARATOR(C) -> split_binary(Bytes, N);
        _ -> cut(Bytes, N - 1)
    end.
